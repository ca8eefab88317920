/** The result that is shown on the images: totals, lesions, diameters, older results. */
import type { Result } from '../api/types';
import { dateTime, millilitres, millimetres, totals } from '../format';
import { isActive, shownResult } from '../state/state';
import type { PartProps } from './context';
import { LesionTable } from './LesionTable';

export function ResultView(part: PartProps) {
  const { state, words } = part;
  const result = shownResult(state);
  if (!result) {
    const quiet = state.loading || !state.series || isActive(state.job) || state.starting;
    return quiet ? null : <p className="metia-empty">{words.t('result.empty')}</p>;
  }
  return (
    <div className="metia-card" data-cy="metia-result" data-result={result.id} data-overlay={state.overlay}>
      <Heading {...part} result={result} />
      {state.overlay === 'loading' && <p className="metia-small">{words.t('result.loading')}</p>}
      {state.overlay === 'failed' && <p className="metia-warning">{words.t('result.overlay.failed')}</p>}
      {result.lesions.length === 0 ? <NothingFound {...part} /> : <Found {...part} result={result} />}
      {result.warnings.length > 0 && (
        <details className="metia-why">
          <summary>{words.t('result.warnings')}</summary>
          <ul>{result.warnings.map((text) => <li key={text}>{text}</li>)}</ul>
        </details>
      )}
    </div>
  );
}

function label(result: Result, language: string): string {
  return `${dateTime(result.created_at, language)} · ${result.model.name} ${result.model.version}`;
}

function Heading({ state, controller, words, result }: PartProps & { result: Result }) {
  const source = state.series?.candidates.find((it) => it.series_uid === result.series_uid);
  return (
    <div className="metia-field">
      <p className="metia-label">
        {words.t('result.title')}
        <span className="metia-badge">{words.t('result.unverified')}</span>
        {result.model.demonstration && (
          <span className="metia-badge metia-badge-warn">{words.t('model.demonstration.short')}</span>
        )}
      </p>
      {state.results.length > 1 ? (
        <select
          data-cy="metia-results"
          aria-label={words.t('result.which')}
          value={result.id}
          onChange={(event) => void controller.show(event.target.value)}
        >
          {state.results.map((it) => (
            <option key={it.id} value={it.id}>
              {label(it, words.language)}
            </option>
          ))}
        </select>
      ) : (
        <p className="metia-small">{label(result, words.language)}</p>
      )}
      {source && <p className="metia-small">{words.t('result.series.other', { description: source.description || '–' })}</p>}
    </div>
  );
}

function NothingFound({ words }: PartProps) {
  return (
    <div className="metia-none" role="status" data-cy="metia-none">
      <p className="metia-strong">{words.t('result.none')}</p>
      <p className="metia-small">{words.t('result.none.more')}</p>
    </div>
  );
}

function Found({ result, ...part }: PartProps & { result: Result }) {
  const { state, controller, words } = part;
  const sum = totals(result.lesions);
  return (
    <>
      <dl className="metia-totals" data-cy="metia-totals">
        <div className="metia-total-count">
          <dd>{words.count('result.count', sum.count)}</dd>
        </div>
        <div>
          <dt>{words.t('result.sum.diameter')}</dt>
          <dd>{millimetres(sum.diameter_mm, words.language)} mm</dd>
        </div>
        <div>
          <dt>{words.t('result.sum.volume')}</dt>
          <dd>{millilitres(sum.volume_ml, words.language)} ml</dd>
        </div>
      </dl>
      <LesionTable {...part} result={result} />
      <label className="metia-check">
        <input
          type="checkbox"
          data-cy="metia-diameters"
          checked={state.diameters}
          onChange={(event) => void controller.toggleDiameters(event.target.checked)}
        />
        {words.t('result.diameters')}
      </label>
    </>
  );
}
