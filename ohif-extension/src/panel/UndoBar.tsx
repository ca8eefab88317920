/** What the last change did, and the way back. */
import { canDecide, type PartProps } from './context';

export function UndoBar({ state, controller, words }: PartProps) {
  if (!state.undo) return null;
  return (
    <div className="metia-undo" role="status" data-cy="metia-undo">
      <span>{words.t(`undo.${state.undo.kind}`, { name: state.undo.name })}</span>
      <button type="button" className="metia-link" disabled={!canDecide(state)} onClick={() => void controller.reading.undo()}>
        {words.t('undo.button')}
      </button>
    </div>
  );
}
