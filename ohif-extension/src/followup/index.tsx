/**
 * The follow-up page inside the viewer: its route, and the ways to it from the study list.
 *
 * Everything the page is made of is a file of its own, fetched when it is first opened.
 */
import { Component, createElement, type MouseEvent, type ReactElement, type ReactNode } from 'react';
import { currentLanguage } from '../i18n';
import { island } from '../island';
import type { Host } from '../ohif/host';
import type { FollowupPage } from './page/FollowupPage';
import { BASE, studyFollowup, type Go } from './places';

const LABELS = {
  en: { followup: 'Follow-up', open: 'Open the follow-up of this patient', failed: 'The follow-up page could not be loaded. Reload; if it stays, tell the administrator.' },
  fr: { followup: 'Suivi', open: 'Ouvrir le suivi de ce patient', failed: 'La page de suivi n’a pas pu être chargée. Rechargez ; si cela persiste, prévenez l’administrateur.' },
};

type PageElement = ReactElement<Parameters<typeof FollowupPage>[0]>;
type Loading = { page: PageElement | null; failed: boolean };

/** Fetches the page; a file that is gone after an update of the server must not blank the viewer. */
class LatePage extends Component<{ host: Host }, Loading> {
  override state: Loading = { page: null, failed: false };

  override componentDidMount(): void {
    void this.load();
  }

  private async load(): Promise<void> {
    try {
      const { openPage } = await import('./page');
      this.setState({ page: openPage(this.props.host, navigation(this.props.host)) });
    } catch (error) {
      console.error('The follow-up page could not be loaded.', error);
      this.setState({ failed: true });
    }
  }

  override render(): ReactNode {
    if (this.state.page) return this.state.page;
    if (!this.state.failed) return null;
    return createElement('p', { role: 'alert', className: 'text-foreground p-6' }, LABELS[currentLanguage()].failed);
  }
}

/** The viewer's own navigation: no reload, and its way back works. */
function navigation(host: Pick<Host, 'commandsManager'>): Go {
  return (to, options) => void host.commandsManager.run('navigateHistory', { to, options: options ?? {} });
}

interface LinkProps {
  go: Go;
  address: string;
  text: string;
  title?: string;
}

/** A link in the viewer's own pages: drawn by the viewer's React, so without hooks. */
function link({ go, address, text, title }: LinkProps): ReactElement {
  return createElement(
    'a',
    {
      href: address,
      title,
      className: 'text-highlight whitespace-nowrap text-sm hover:underline',
      'data-cy': 'metia-followup-link',
      // A row of the list must not be chosen or opened by it.
      onDoubleClick: (event: MouseEvent) => event.stopPropagation(),
      onClick: (event: MouseEvent) => {
        event.stopPropagation();
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        go(address);
      },
    },
    text,
  );
}

interface StudyRow {
  original: { studyInstanceUid?: string };
}

interface Column {
  id?: string;
  cell?: unknown;
  meta?: { minWidth?: number };
}

const LINK_WIDTH_PX = 70;

/** The link stands beside the patient's name: a column of its own would get a filter to type in. */
function withLinks(columns: Column[], go: Go): Column[] {
  const words = LABELS[currentLanguage()];
  return columns.map((column) => {
    const { cell } = column;
    if (column.id !== 'patient' || typeof cell !== 'function') return column;
    return {
      ...column,
      meta: { ...column.meta, minWidth: (column.meta?.minWidth ?? 0) + LINK_WIDTH_PX },
      cell: (context: { row: StudyRow }) => {
        const uid = context.row.original.studyInstanceUid;
        const name = (cell as (context: object) => ReactNode)(context);
        if (!uid) return name;
        return createElement(
          'div',
          { className: 'flex items-center justify-between gap-2' },
          createElement('div', { className: 'min-w-0' }, name),
          link({ go, address: studyFollowup(uid), text: words.followup, title: words.open }),
        );
      },
    };
  });
}

interface AppConfig {
  whiteLabeling?: { createLogoComponentFn?: unknown };
}

/** The way to the page beside the logo of the study list; a logo of the hospital's own stays. */
function addToHeader(appConfig: AppConfig | undefined, go: Go): void {
  if (!appConfig || appConfig.whiteLabeling) return;
  appConfig.whiteLabeling = {
    // The header of an open study gives properties, the study list none: there the logo is as ever.
    createLogoComponentFn: (_react: unknown, header?: object) =>
      header
        ? null
        : createElement(
            'div',
            { className: 'flex items-center gap-6' },
            createElement('img', { src: '/ohif-logo.svg', alt: 'OHIF', className: 'h-[22px]' }),
            link({ go, address: BASE, text: LABELS[currentLanguage()].followup }),
          ),
  };
}

/** The customizations of the viewer that make the page part of it. */
export function followupCustomizations(host: Host & { appConfig?: AppConfig }): Record<string, object> {
  const go = navigation(host);
  addToHeader(host.appConfig, go);
  return {
    'routes.customRoutes': {
      // One route for all patients, so that the page stays while they change.
      routes: { $push: [{ path: `${BASE}/*`, children: island(LatePage, { host }), private: true }] },
    },
    'workList.columns': { $apply: (columns: Column[]) => withLinks(columns, go) },
  };
}
