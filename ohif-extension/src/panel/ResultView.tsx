/** The result that is shown on the images: what it says, and what a reader does with it. */
import { useState } from 'react';
import type { Result } from '../api/types';
import { dateTime, millilitres, millimetres, totals } from '../format';
import { comparisonRows, courseIsOf, previousVisit } from '../state/comparison';
import { isActive, mayEdit, shownResult } from '../state/state';
import { Assessment } from './Assessment';
import { canDecide, canReview, type PartProps } from './context';
import { Correcting } from './Correcting';
import { Exports } from './Exports';
import { Inputs } from './Inputs';
import { LesionTable } from './LesionTable';
import { Signing } from './Signing';

export function ResultView(part: PartProps) {
  const { state, words } = part;
  const result = shownResult(state);
  if (!result) {
    const quiet = state.loading || !state.series || isActive(state.job) || state.starting;
    return quiet ? null : <p className="metia-empty">{words.t('result.empty')}</p>;
  }
  return (
    <div
      className="metia-card"
      data-cy="metia-result"
      data-result={result.id}
      data-overlay={state.overlay}
      data-compare={state.compare}
      aria-busy={state.busy !== null}
    >
      <Heading {...part} result={result} />
      {state.overlay === 'loading' && <p className="metia-small">{words.t('result.loading')}</p>}
      {state.overlay === 'failed' && <p className="metia-warning">{words.t('result.overlay.failed')}</p>}
      <Assessment {...part} />
      <Pending {...part} result={result} />
      {hasRows(part, result) ? <Found {...part} result={result} /> : <NothingFound {...part} />}
      <Correcting {...part} />
      <Inputs {...part} />
      <Signing {...part} />
      <Exports {...part} result={result} />
      <UpToDate {...part} />
      {result.warnings.length > 0 && (
        <details className="metia-why">
          <summary>{words.t('result.warnings')}</summary>
          <ul>{result.warnings.map((text) => <li key={text}>{text}</li>)}</ul>
        </details>
      )}
    </div>
  );
}

const hasRows = ({ state }: PartProps, result: Result) => comparisonRows(state.course, result).length > 0;

function label(result: Result, { words }: PartProps): string {
  const made = dateTime(result.created_at, words.language);
  if (result.origin === 'model') return `${made} · ${result.model?.name ?? ''} ${result.model?.version ?? ''}`;
  const what = result.origin === 'import' ? words.t('result.import') : words.t('result.version', { version: result.version });
  return [made, what, result.author ? words.t('result.by', { name: result.author }) : ''].filter(Boolean).join(' · ');
}

function Heading({ result, ...part }: PartProps & { result: Result }) {
  const { state, controller, words } = part;
  const source = state.series?.candidates.find((it) => it.series_uid === result.series_uid);
  return (
    <div className="metia-field">
      <p className="metia-label">
        {words.t('result.title')}
        <span className={`metia-badge metia-badge-${result.state}`} data-cy="metia-state">
          {words.say('result.state', result.state, 'result.state.unverified')}
        </span>
        {result.model?.demonstration && (
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
              {label(it, part)}
            </option>
          ))}
        </select>
      ) : (
        <p className="metia-small">{label(result, part)}</p>
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

function Pending({ state, words, result }: PartProps & { result: Result }) {
  const count = comparisonRows(state.course, result).filter((row) => row.status.includes('pending')).length;
  if (count === 0) return null;
  return (
    <p className="metia-warning" data-cy="metia-pending">
      {words.count('link.pending', count)}
    </p>
  );
}

function Found({ result, ...part }: PartProps & { result: Result }) {
  const { state, controller, words } = part;
  const counted = result.lesions.filter((lesion) => lesion.review !== 'rejected');
  const sum = totals(counted);
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
      <Review {...part} />
      <Compare {...part} />
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

function Review({ state, controller, words }: PartProps) {
  const [sure, setSure] = useState(false);
  if (!mayEdit(state)) return null;
  const blocked = !canReview(state);
  const why = blocked && canDecide(state) ? words.t('lesion.signed') : undefined;
  return (
    <div className="metia-buttons">
      {sure ? (
        <>
          <span>{words.t('lesion.reject.all.sure')}</span>
          <button
            type="button"
            data-cy="metia-reject-all-yes"
            disabled={blocked}
            onClick={() => {
              setSure(false);
              void controller.reading.rejectAll();
            }}
          >
            {words.t('button.yes')}
          </button>
          <button type="button" onClick={() => setSure(false)}>
            {words.t('button.no')}
          </button>
        </>
      ) : (
        <>
          <button type="button" data-cy="metia-accept-all" title={why} disabled={blocked} onClick={() => void controller.reading.acceptAll()}>
            ✓ {words.t('lesion.accept.all')}
          </button>
          <button type="button" data-cy="metia-reject-all" title={why} disabled={blocked} onClick={() => setSure(true)}>
            ✕ {words.t('lesion.reject.all')}
          </button>
        </>
      )}
    </div>
  );
}

function Compare({ state, controller, words, terms }: PartProps) {
  const previous = previousVisit(state.course, state.studyUid);
  if (!previous || !courseIsOf(state.course, shownResult(state))) return null;
  const text = { off: 'compare.show', opening: 'compare.opening', on: 'compare.hide' } as const;
  return (
    <div className="metia-stack">
      <button
        type="button"
        className="metia-secondary"
        data-cy="metia-compare"
        aria-pressed={state.compare === 'on'}
        disabled={state.compare === 'opening' || state.overlay === 'loading'}
        onClick={() => void controller.visits.toggle()}
      >
        {words.t(text[state.compare])}
      </button>
      {state.compare === 'on' && (
        <p className="metia-small">{words.t('compare.sides', { date: terms.day(previous.date) })}</p>
      )}
      {state.compare === 'on' && !state.linked && (
        <p className="metia-warning" data-cy="metia-unlinked">{words.t('compare.unlinked')}</p>
      )}
    </div>
  );
}

function UpToDate({ state, controller, words }: PartProps) {
  if (!state.course || !mayEdit(state)) return null;
  return (
    <button
      type="button"
      className="metia-link metia-left"
      data-cy="metia-update"
      title={words.t('update.long')}
      disabled={!canDecide(state)}
      onClick={() => void controller.reading.bringUpToDate()}
    >
      {words.t('update.button')}
    </button>
  );
}
