/** What the criteria propose for this visit, and why. */
import type { CourseVisit } from '../api/course';
import { millimetres } from '../format';
import { courseIsOf, isBeingAligned, visitOf } from '../state/comparison';
import { shownResult } from '../state/state';
import { canDecide, type PartProps } from './context';

export function Assessment(part: PartProps) {
  const { state, controller, words, terms } = part;
  const result = shownResult(state);
  const visit = visitOf(state.course, state.studyUid);
  if (!state.course || !visit || !result) return null;
  if (!courseIsOf(state.course, result)) {
    return (
      <div className="metia-warning metia-stack" data-cy="metia-other-result">
        {words.t('result.other')}
        <button
          type="button"
          className="metia-secondary"
          data-cy="metia-use"
          disabled={!canDecide(state)}
          onClick={() => void controller.reading.use(result)}
        >
          {words.t('result.use')}
        </button>
      </div>
    );
  }
  if (isBeingAligned(state.course, visit.study_uid)) {
    return (
      <p className="metia-small" role="status" data-cy="metia-aligning">
        {words.t('assess.aligning')}
      </p>
    );
  }
  const assessment = visit.assessment;
  if (visit.left_out || !assessment) {
    return (
      <p className="metia-small" data-cy="metia-not-assessed">
        {visit.left_out ? terms.reason(visit.left_out) : words.t('assess.none')}
      </p>
    );
  }
  return (
    <div className="metia-assessment" data-cy="metia-assessment" data-category={assessment.category}>
      <p className="metia-category">
        <strong className={`metia-chip metia-chip-${assessment.category}`} data-cy="metia-category">
          {terms.said('short', assessment.category)}
        </strong>
        <span>{terms.said('category', assessment.category)}</span>
        {assessment.category !== 'BASELINE' && <span className="metia-badge">{words.t('assess.proposed')}</span>}
        {assessment.confirmed !== null && (
          <span className="metia-badge" data-cy="metia-confirmed">
            {words.t(assessment.confirmed ? 'assess.confirmed' : 'assess.unconfirmed')}
          </span>
        )}
      </p>
      <Numbers visit={visit} {...part} />
      {visit.registration?.accepted === false && (
        <p className="metia-warning" data-cy="metia-unaligned">{words.t('assess.unaligned')}</p>
      )}
      <Why visit={visit} {...part} />
    </div>
  );
}

function Numbers({ visit, words, terms }: PartProps & { visit: CourseVisit }) {
  if (visit.sum_mm === null) return null;
  return (
    <dl className="metia-sum" data-cy="metia-sum">
      <div>
        <dt>{words.t('assess.sum')}</dt>
        <dd title={visit.sum_complete ? undefined : words.t('assess.sum.incomplete')}>
          {visit.sum_complete ? '' : '≥ '}
          {millimetres(visit.sum_mm, words.language)} mm
        </dd>
      </div>
      {visit.change_from_baseline_percent !== null && !visit.is_baseline && (
        <div>
          <dt>{words.t('assess.baseline')}</dt>
          <dd data-cy="metia-from-baseline">{terms.percent(visit.change_from_baseline_percent)}</dd>
        </div>
      )}
      {visit.change_from_nadir_percent !== null && !visit.is_baseline && (
        <div>
          <dt>{words.t('assess.nadir')}</dt>
          <dd data-cy="metia-from-nadir">{terms.percent(visit.change_from_nadir_percent)}</dd>
        </div>
      )}
    </dl>
  );
}

function Why({ visit, state, words, terms }: PartProps & { visit: CourseVisit }) {
  const { course } = state;
  const assessment = visit.assessment;
  if (!assessment || !course) return null;
  const band = assessment.uncertainty;
  const rules = course.rule_sets.find((it) => it.name === course.rule_set)?.title ?? course.rule_set;
  return (
    <details className="metia-why" data-cy="metia-reasons">
      <summary>{words.t('assess.why')}</summary>
      <ul>
        {assessment.reasons.map((reason) => (
          <li key={`${reason.code} ${reason.text}`} data-code={reason.code}>
            {terms.reason(reason)}
            {words.language !== 'en' && <span className="metia-original">{reason.text}</span>}
          </li>
        ))}
        {band && !band.firm && (
          <li>
            {words.t('assess.band', { categories: band.overall.map((it) => terms.said('short', it)).join(', ') })}
          </li>
        )}
        {assessment.best_response && (
          <li>{words.t('assess.best', { category: terms.said('category', assessment.best_response) })}</li>
        )}
        {assessment.volumetric && !visit.is_baseline && (
          <li>{words.t('assess.volume', { category: terms.said('volumetric', assessment.volumetric.category) })}</li>
        )}
      </ul>
      <p className="metia-small">{words.t('assess.rules', { rules, version: course.rules_version })}</p>
    </details>
  );
}
