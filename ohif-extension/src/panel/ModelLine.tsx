/** The model a press would run, to choose where there are several; a warning where it is only for show. */
import { isActive, modelToRun } from '../state/state';
import { Choice } from './Choice';
import type { PartProps } from './context';

export function ModelLine({ state, controller, words }: PartProps) {
  const model = modelToRun(state);
  if (!model) return null;
  const models = state.models ?? [];
  return (
    <div className="metia-field" data-cy="metia-model">
      {models.length > 1 ? (
        <Choice
          label={words.t('model.title')}
          name="models"
          value={model.name}
          options={models.map(({ name, version }) => ({ value: name, label: `${name} ${version}` }))}
          disabled={state.starting || isActive(state.job)}
          onChoose={(name) => controller.useModel(name)}
        />
      ) : (
        <p className="metia-label">
          {words.t('model.title')}
          <span className="metia-hint">
            {model.name} · {words.t('model.version', { version: model.version })}
          </span>
        </p>
      )}
      {model.demonstration && (
        <p className="metia-warning" data-cy="metia-demonstration">
          {words.t('model.demonstration')}
        </p>
      )}
    </div>
  );
}
