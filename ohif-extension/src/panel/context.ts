/** What every part of the panel is given. */
import { useSyncExternalStore } from 'react';
import type { Controller } from '../controller';
import type { Translator } from '../i18n';
import type { State } from '../state/state';
import type { Store } from '../state/store';

export interface PanelProps {
  store: Store<State>;
  controller: Controller;
  words: Translator;
}

export interface PartProps {
  state: State;
  controller: Controller;
  words: Translator;
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}
