/**
 * The extension, as the viewer loads it: a panel, a toolbar button and their commands.
 *
 * All behaviour is in the controller; this file only connects it to the viewer.
 */
import { ReaderClient } from './api/reader';
import type { Updated } from './api/requests';
import { Controller } from './controller';
import { followupCustomizations } from './followup';
import { pageWords } from './followup/words';
import { currentLanguage, translator } from './i18n';
import { EXTENSION_ID, PANEL_NAME, TOOLBAR_BUTTON_ID, TOOLBAR_BUTTON_TYPE, TOOLBAR_CUSTOMIZATION } from './id';
import { island } from './island';
import type { Host } from './ohif/host';
import { OhifViewer } from './ohif/viewer';
import { Panel } from './panel/Panel';
import { RunButton } from './panel/RunButton';
import { saveFile } from './panel/saveFile';
import { installStyle } from './panel/style';
import { INITIAL, type State } from './state/state';
import { createStore } from './state/store';

const store = createStore<State>(INITIAL);
const words = translator(currentLanguage());
const terms = pageWords(words.language);
let controller: Controller | null = null;

function controllerOf(host: Host): Controller {
  controller ??= new Controller(
    new ReaderClient({
      base: host.configuration?.apiBase ?? '/api/v1',
      authorization: () =>
        host.servicesManager.services.userAuthenticationService.getAuthorizationHeader?.() ?? {},
    }),
    new OhifViewer(host),
    store,
    {
      ready: (lesions) => ({
        title: words.t('note.ready.title'),
        message: lesions === 0 ? words.t('result.none') : words.count('result.count', lesions),
      }),
      failed: (problem) => ({ title: words.t('note.failed.title'), message: words.problem(problem).title }),
      updated: (answer) => ({ title: words.t('note.update.title'), message: updatedText(answer) }),
      stored: () => ({ title: words.t('export.title'), message: words.t('export.stored') }),
      leave: () => words.t('edit.leave'),
    },
    saveFile,
  );
  return controller;
}

function updatedText({ queued, skipped }: Updated): string {
  const parts = [
    queued.length > 0 ? words.count('note.update.queued', queued.length) : '',
    skipped.length > 0 ? words.count('note.update.skipped', skipped.length) : '',
  ];
  return parts.filter(Boolean).join(' ') || words.t('note.update.nothing');
}

export default {
  id: EXTENSION_ID,

  getCommandsModule(host: Host) {
    const it = controllerOf(host);
    const definitions = {
      metiaEnter: { commandFn: () => it.enter() },
      metiaLeave: { commandFn: () => it.leave() },
      metiaRun: { commandFn: () => void it.run() },
    };
    return { actions: {}, definitions, defaultContext: 'DEFAULT' };
  },

  getPanelModule(host: Host) {
    installStyle();
    return [
      {
        name: PANEL_NAME,
        iconName: 'icon-tool-click-segment',
        iconLabel: words.t('panel.title'),
        label: words.t('panel.title'),
        component: island(Panel, { store, controller: controllerOf(host), words, terms }),
      },
    ];
  },

  getToolbarModule(host: Host) {
    installStyle();
    return [
      {
        name: TOOLBAR_BUTTON_TYPE,
        defaultComponent: island(RunButton, { store, controller: controllerOf(host), words, terms }),
      },
    ];
  },

  getCustomizationModule(host: Host) {
    const button = { id: TOOLBAR_BUTTON_ID, uiType: TOOLBAR_BUTTON_TYPE, props: {} };
    return [{ name: 'global', value: { [TOOLBAR_CUSTOMIZATION]: [button], ...followupCustomizations(host) } }];
  },
};
