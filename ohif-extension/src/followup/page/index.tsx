/** The part of the page that is fetched when it is opened: all of it, and its style. */
import { createElement, type ReactElement } from 'react';
import { currentLanguage } from '../../i18n';
import type { Host } from '../../ohif/host';
import { FollowupClient } from '../client';
import { Places, type Go } from '../places';
import { pageWords } from '../words';
import { FollowupPage, type PageProps } from './FollowupPage';
import css from './page.css?inline';

const STYLE_ID = 'metia-followup-style';

function installStyle(): void {
  if (document.getElementById(STYLE_ID)) return;
  const style = document.createElement('style');
  style.id = STYLE_ID;
  style.textContent = css;
  document.head.append(style);
}

export function openPage(host: Host, go: Go): ReactElement<PageProps> {
  installStyle();
  return createElement(FollowupPage, {
    client: new FollowupClient({
      base: host.configuration?.apiBase ?? '/api/v1',
      authorization: () => host.servicesManager.services.userAuthenticationService.getAuthorizationHeader?.() ?? {},
    }),
    places: new Places(go),
    words: pageWords(currentLanguage()),
  });
}
