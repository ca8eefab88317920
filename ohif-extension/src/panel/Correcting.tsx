/** Drawing on the outlines with the viewer's tools, and saving what was drawn. */
import { useState } from 'react';
import { dateTime } from '../format';
import type { Tool } from '../ohif/editing';
import { mayEdit, type Conflict } from '../state/state';
import { canDecide, type PartProps } from './context';

const TOOLS = ['brush', 'sphere', 'eraser'] as const;
const FIRST_RADIUS_MM = 4;

export function Correcting(part: PartProps) {
  const { state, words } = part;
  if (!mayEdit(state)) return null;
  return (
    <details className="metia-inputs" data-cy="metia-correcting">
      <summary>{words.t('edit.title')}</summary>
      <Tools {...part} />
    </details>
  );
}

function Tools({ state, controller, words }: PartProps) {
  const [tool, setTool] = useState<Tool>('none');
  const [radius_mm, setRadius] = useState(FIRST_RADIUS_MM);
  const { corrections } = controller;
  const take = (wanted: Tool) => {
    const next = wanted === tool ? 'none' : wanted;
    setTool(next);
    corrections.use(next);
    if (next !== 'none') corrections.size(radius_mm);
  };
  const begin = async () => {
    await corrections.begin();
    setTool('brush');
    corrections.size(radius_mm);
  };
  const blocked = state.overlay === 'loading' || state.busy !== null;
  return (
    <div className="metia-stack">
      <p className="metia-small">{words.t('edit.hint')}</p>
      <div className="metia-buttons" role="group" aria-label={words.t('edit.title')}>
        {TOOLS.map((one) => (
          <button
            key={one}
            type="button"
            data-cy={`metia-tool-${one}`}
            aria-pressed={tool === one}
            disabled={blocked || (state.overlay === 'none' && !state.unsaved)}
            onClick={() => take(one)}
          >
            {words.t(`edit.${one}`)}
          </button>
        ))}
      </div>
      <label className="metia-range">
        {words.t('edit.size', { radius: radius_mm })}
        <input
          type="range"
          data-cy="metia-radius"
          min={1}
          max={20}
          step={0.5}
          value={radius_mm}
          onChange={(event) => {
            setRadius(event.target.valueAsNumber);
            corrections.size(event.target.valueAsNumber);
          }}
        />
      </label>
      <div className="metia-buttons">
        <button type="button" data-cy="metia-new-lesion" disabled={blocked} onClick={() => void begin()}>
          + {words.t('edit.new')}
        </button>
        <button type="button" data-cy="metia-all-tools" onClick={() => controller.openTools()}>
          {words.t('edit.all')}
        </button>
      </div>
    </div>
  );
}

export function Unsaved({ state, controller, words }: PartProps) {
  const [sure, setSure] = useState(false);
  const saving = state.busy === 'save';
  return (
    <div className="metia-warning metia-stack metia-unsaved" role="status" data-cy="metia-unsaved">
      <p>{words.t(saving ? 'edit.saving' : sure ? 'edit.discard.sure' : 'edit.unsaved')}</p>
      {sure ? (
        <div className="metia-buttons">
          <button
            type="button"
            data-cy="metia-discard-yes"
            onClick={() => {
              setSure(false);
              controller.corrections.discard();
            }}
          >
            {words.t('button.yes')}
          </button>
          <button type="button" onClick={() => setSure(false)}>
            {words.t('button.no')}
          </button>
        </div>
      ) : (
        <div className="metia-buttons">
          <button
            type="button"
            className="metia-strong"
            data-cy="metia-save"
            disabled={!canDecide(state)}
            onClick={() => void controller.corrections.save()}
          >
            {words.t('edit.save')}
          </button>
          <button type="button" data-cy="metia-discard" disabled={!canDecide(state)} onClick={() => setSure(true)}>
            {words.t('edit.discard')}
          </button>
        </div>
      )}
    </div>
  );
}

/** Somebody else saved or decided first: say who, and let the reader choose. */
export function ConflictCard({ conflict, state, controller, words }: PartProps & { conflict: Conflict }) {
  const { theirs, voxels } = conflict;
  const who = theirs?.author;
  const blocked = !canDecide(state);
  return (
    <div className="metia-problem" role="alert" data-cy="metia-conflict">
      <p className="metia-problem-title">{words.t('conflict.title')}</p>
      <p>
        {who
          ? words.t('conflict.who', { name: who, at: dateTime(theirs?.created_at ?? '', words.language) })
          : words.t('conflict.someone')}
      </p>
      <p>{words.t(voxels ? 'conflict.mine' : 'conflict.said')}</p>
      <div className="metia-buttons">
        {voxels ? (
          <>
            <button type="button" className="metia-strong" data-cy="metia-keep-both" disabled={blocked} onClick={() => void controller.corrections.keepBoth()}>
              {words.t('conflict.keep')}
            </button>
            <button type="button" data-cy="metia-take-theirs" disabled={blocked} onClick={() => void controller.corrections.takeTheirs()}>
              {words.t('conflict.theirs')}
            </button>
            <button type="button" data-cy="metia-conflict-later" onClick={() => controller.reading.dismissConflict()}>
              {words.t('conflict.later')}
            </button>
          </>
        ) : (
          <button type="button" data-cy="metia-conflict-ok" onClick={() => void controller.reading.showTheirs()}>
            {words.t('conflict.ok')}
          </button>
        )}
      </div>
    </div>
  );
}
