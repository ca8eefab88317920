/** What every part of the panel is given. */
import { useSyncExternalStore } from 'react';
import type { Controller } from '../controller';
import type { PageWords } from '../followup/words';
import type { Translator } from '../i18n';
import { mayEdit, shownResult, type State } from '../state/state';
import type { Store } from '../state/store';

export interface PanelProps {
  store: Store<State>;
  controller: Controller;
  words: Translator;
  /** Words of the follow-up: categories, reasons, days, changes. */
  terms: PageWords;
}

export interface PartProps {
  state: State;
  controller: Controller;
  words: Translator;
  /** Words of the follow-up: categories, reasons, days, changes. */
  terms: PageWords;
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}

/** Whether a decision can be made now: by this person, and with none on its way. */
export function canDecide(state: State): boolean {
  return mayEdit(state) && state.busy === null && state.session === 'open';
}

/** Whether the shown result can be reviewed: a signed one stands; a correction follows it as a new version. */
export function canReview(state: State): boolean {
  return canDecide(state) && shownResult(state)?.state !== 'signed';
}
