/** Which series a press would segment, why, and how to take another. */
import type { SeriesCandidate } from '../api/types';
import type { Translator } from '../i18n';
import { isActive, seriesToRun } from '../state/state';
import type { PartProps } from './context';

function title(candidate: SeriesCandidate, words: Translator): string {
  const number = candidate.series_number === null ? '' : `${candidate.series_number} · `;
  return number + (candidate.description || words.t('series.unnamed'));
}

function option(candidate: SeriesCandidate, words: Translator) {
  const worst = candidate.reasons.filter((reason) => reason.effect < 0).sort((a, b) => a.effect - b.effect)[0];
  const why = !candidate.suitable && worst ? ` (${words.reason(worst)})` : '';
  return (
    <option key={candidate.series_uid} value={candidate.series_uid}>
      {`${title(candidate, words)} · ${words.count('series.images', candidate.instance_count)}${why}`}
    </option>
  );
}

export function SeriesChooser({ state, controller, words }: PartProps) {
  const { series } = state;
  if (!series) return state.loading ? <p className="metia-small">{words.t('series.loading')}</p> : null;
  const taken = seriesToRun(state);
  const suitable = series.candidates.filter((candidate) => candidate.suitable);
  const others = series.candidates.filter((candidate) => !candidate.suitable);
  return (
    <div className="metia-field">
      <label className="metia-label" htmlFor="metia-series">
        {words.t('series.title')}
        {taken && <span className="metia-hint">{words.t(state.override ? 'series.byhand' : 'series.automatic')}</span>}
      </label>
      <select
        id="metia-series"
        data-cy="metia-series"
        aria-label={words.t('series.choose')}
        disabled={state.starting || isActive(state.job)}
        value={taken?.series_uid ?? ''}
        onChange={(event) => void controller.choose(event.target.value || null)}
      >
        {!series.chosen && <option value="">{words.t('series.none')}</option>}
        {suitable.length > 0 && (
          <optgroup label={words.t('series.group.suitable')}>{suitable.map((it) => option(it, words))}</optgroup>
        )}
        {others.length > 0 && (
          <optgroup label={words.t('series.group.unsuitable')}>{others.map((it) => option(it, words))}</optgroup>
        )}
      </select>
      {!taken && series.refusal && <Refusal refusal={series.refusal} words={words} />}
      {taken && !taken.suitable && (
        <p className="metia-warning" data-cy="metia-unsuitable">
          {words.t('series.unsuitable.warning')}
        </p>
      )}
      {taken && taken.reasons.length > 0 && <Why candidate={taken} words={words} />}
    </div>
  );
}

function Refusal({ refusal, words }: { refusal: { code: string; detail: string }; words: Translator }) {
  const known = words.problem({ code: refusal.code, title: '', remedy: '' });
  return (
    <div className="metia-warning" data-cy="metia-refusal">
      {words.language !== 'en' && <p>{known.title}</p>}
      <p>{refusal.detail}</p>
    </div>
  );
}

function Why({ candidate, words }: { candidate: SeriesCandidate; words: Translator }) {
  return (
    <details className="metia-why" data-cy="metia-why">
      <summary>{words.t(candidate.suitable ? 'series.why' : 'series.whynot')}</summary>
      <ul>
        {candidate.reasons.map((reason) => (
          <li key={reason.code} className={reason.effect < 0 ? 'metia-con' : 'metia-pro'}>
            {words.reason(reason)}
          </li>
        ))}
      </ul>
    </details>
  );
}
