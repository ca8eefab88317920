/** The button in the viewer's toolbar; the same press as the one in the panel. */
import { isActive, obstacle } from '../state/state';
import { canDecide, useStore, type PanelProps } from './context';

export function RunButton({ store, controller, words }: PanelProps) {
  const state = useStore(store);
  const why = obstacle(state);
  const running = isActive(state.job);
  const percent = Math.round((state.job?.progress ?? 0) * 100);
  return (
    <>
    <button
      type="button"
      className="metia-toolbar"
      data-cy="metia-toolbar-run"
      disabled={why !== null}
      title={why ? words.t(`obstacle.${why}`) : words.t('panel.notice')}
      onKeyDown={(event) => event.stopPropagation()}
      onClick={() => void controller.run()}
    >
      {words.t('button.run')}
      {running && <span className="metia-toolbar-percent">{percent} %</span>}
    </button>
    {state.unsaved && !state.conflict && (
      <button
        type="button"
        className="metia-toolbar metia-toolbar-save"
        data-cy="metia-toolbar-save"
        disabled={!canDecide(state)}
        title={words.t('edit.unsaved')}
        onKeyDown={(event) => event.stopPropagation()}
        onClick={() => void controller.corrections.save()}
      >
        {words.t(state.busy === 'save' ? 'edit.saving' : 'edit.save')}
      </button>
    )}
    </>
  );
}
