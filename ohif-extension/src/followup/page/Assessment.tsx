/** The proposed category of a visit, with its reasons: what the rules say, and who signed. */
import { categoryClass } from '../charts/look';
import { patientAddress, type Place, type Places } from '../places';
import type { Course, CourseVisit } from '../shape/course';
import type { PageWords } from '../words';
import { visitAddress } from './PatientView';

interface AssessmentProps {
  course: Course;
  visit: CourseVisit;
  choose: (studyUid: string) => void;
  places: Places;
  place: Place;
  words: PageWords;
}

export function Assessment({ course, visit, choose, places, place, words }: AssessmentProps) {
  const index = course.visits.indexOf(visit);
  const [before, after] = [course.visits[index - 1], course.visits[index + 1]];
  const { assessment } = visit;
  return (
    <section className="mfu-card mfu-assessment" aria-label={words.t('assessment.title')} data-cy="mfu-assessment" data-study={visit.study_uid}>
      <div className="mfu-bar-top">
        <h2>{words.t('assessment.title')}</h2>
        <div className="mfu-switch">
          <button type="button" disabled={!before} aria-label={words.t('assessment.previous')} title={words.t('assessment.previous')} onClick={() => before && choose(before.study_uid)}>
            ‹
          </button>
          <button type="button" disabled={!after} aria-label={words.t('assessment.next')} title={words.t('assessment.next')} onClick={() => after && choose(after.study_uid)}>
            ›
          </button>
        </div>
      </div>
      <p>
        {words.t('assessment.at', { date: words.day(visit.date) })} ·{' '}
        <a {...places.link(visitAddress(course, visit.study_uid, null))}>{words.t('assessment.open')}</a>
      </p>
      <RulesSwitch course={course} places={places} place={place} words={words} />
      {assessment ? <Answer visit={visit} words={words} /> : <p className="mfu-empty">{visit.left_out ? words.reason(visit.left_out) : words.t('assessment.none')}</p>}
      <Signature visit={visit} words={words} />
    </section>
  );
}

/** Reads by other criteria without changing the plan. */
function RulesSwitch({ course, places, place, words }: Pick<AssessmentProps, 'course' | 'places' | 'place' | 'words'>) {
  const show = (name: string) => {
    const rules = name === course.plan.rule_set ? null : name;
    places.go(patientAddress(course.patient.id, { ...place, rules }), { replace: true });
  };
  return (
    <div className="mfu-switch mfu-rules" role="group" aria-label={words.t('plan.rules')}>
      {course.rule_sets.map(({ name, title }) => (
        <button key={name} type="button" aria-pressed={course.rule_set === name} data-cy={`mfu-rules-${name}`} onClick={() => show(name)}>
          {title}
        </button>
      ))}
    </div>
  );
}

function Answer({ visit, words }: { visit: CourseVisit; words: PageWords }) {
  const assessment = visit.assessment!;
  const confirmation =
    assessment.confirmed === null ? null : words.t(assessment.confirmed ? 'assessment.confirmed' : 'assessment.unconfirmed');
  return (
    <>
      <p className="mfu-verdict">
        <span className={categoryClass(assessment.category)} data-cy="mfu-verdict">
          {words.said('short', assessment.category)}
        </span>
        <span>
          <strong>{words.said('category', assessment.category)}</strong>
          {confirmation && <span className="mfu-small"> · {confirmation}</span>}
        </span>
      </p>
      <p className="mfu-small">{words.t('assessment.proposed')}</p>
      <Facts visit={visit} words={words} />
      <h3>{words.t('assessment.reasons')}</h3>
      <ul className="mfu-reasons" data-cy="mfu-reasons">
        {assessment.reasons.map((reason) => (
          <li key={`${reason.code} ${reason.text}`} data-code={reason.code}>
            {words.reason(reason)}
            {words.reason(reason) !== reason.text && (
              <span className="mfu-small" lang="en">
                {reason.text}
              </span>
            )}
          </li>
        ))}
      </ul>
      <Uncertainty visit={visit} words={words} />
      {visit.reading.missing.length > 0 && (
        <p className="mfu-warn" data-cy="mfu-missing">
          {words.t('assessment.missing', { missing: visit.reading.missing.map((each) => words.said('missing', each)).join(', ') })}
        </p>
      )}
    </>
  );
}

function Facts({ visit, words }: { visit: CourseVisit; words: PageWords }) {
  const assessment = visit.assessment!;
  const facts: [string, string | null][] = [
    [words.t('assessment.sum'), visit.sum_mm === null ? null : words.size(visit.sum_mm, 'diameter')],
    [words.t('assessment.baseline'), visit.change_from_baseline_percent === null ? null : words.percent(visit.change_from_baseline_percent)],
    [words.t('assessment.nadir'), visit.change_from_nadir_percent === null ? null : words.percent(visit.change_from_nadir_percent)],
    [words.t('assessment.target'), assessment.target === 'NOT_APPLICABLE' ? null : words.said('category', assessment.target)],
    [words.t('assessment.nontarget'), words.said('nontarget', assessment.non_target)],
    [words.t('assessment.new'), assessment.new_lesions.join(', ')],
    [words.t('assessment.best'), words.said('category', assessment.best_response)],
    [words.t('assessment.since'), assessment.since && words.day(assessment.since)],
  ];
  return (
    <dl className="mfu-facts">
      {facts.map(([name, value]) => value && (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Uncertainty({ visit, words }: { visit: CourseVisit; words: PageWords }) {
  const assessment = visit.assessment!;
  const band = assessment.uncertainty;
  const width = words.number(band?.half_width_mm ?? 0, 1);
  const { volumetric } = assessment;
  return (
    <>
      {band && (
        <p className={band.firm ? 'mfu-small' : 'mfu-warn'}>
          {band.firm
            ? words.t('assessment.firm', { width })
            : words.t('assessment.band', { width, categories: band.overall.map((each) => words.said('short', each)).join(', ') })}
        </p>
      )}
      {volumetric && (
        <p className="mfu-small">
          {words.t('assessment.volumetric', { category: words.said('volumetric', volumetric.category) })}
          {volumetric.change_from_baseline_percent !== null && ` (${words.percent(volumetric.change_from_baseline_percent)})`}
          {volumetric.sphere_equivalent_growth && `; ${words.t('assessment.growth')}`}
        </p>
      )}
    </>
  );
}

function Signature({ visit, words }: { visit: CourseVisit; words: PageWords }) {
  const { signed } = visit;
  if (!signed) return null;
  return (
    <div className={signed.stale ? 'mfu-warn' : 'mfu-signed'} data-cy="mfu-signed">
      <p>{words.t('assessment.signed', { category: words.said('short', signed.category), by: signed.by, at: words.day(signed.at) })}</p>
      {signed.comment && <p>{signed.comment}</p>}
      {signed.stale && <p>{words.t('assessment.stale')}</p>}
    </div>
  );
}
