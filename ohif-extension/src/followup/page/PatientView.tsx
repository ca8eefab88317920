/** One patient: category, charts, table and plan; what is chosen in one is shown in all. */
import { useCallback, useMemo, useState } from 'react';
import { SUM, Timeline, type ChartProps } from '../charts/Timeline';
import { Spider } from '../charts/Spider';
import { Waterfall } from '../charts/Waterfall';
import type { FollowupClient } from '../client';
import { patientAddress, viewerAddress, type Place, type Places } from '../places';
import { datedVisits, observationAt, personName, type Course, type Metric } from '../shape/course';
import type { PageWords } from '../words';
import { Assessment } from './Assessment';
import { Events } from './Events';
import { Exports } from './Exports';
import { Legend } from './Legend';
import { PlanForm } from './PlanForm';
import { Update } from './Update';
import { VisitTable } from './VisitTable';

export interface PatientProps {
  course: Course;
  reload: () => Promise<void>;
  take: (course: Course) => void;
  client: FollowupClient;
  places: Places;
  place: Place;
  role: string;
  words: PageWords;
}

/** The slice of a lesion at a visit, or the visit itself, in the viewer. */
export function visitAddress(course: Course, studyUid: string, trackId: string | null): string {
  const visit = course.visits.find((it) => it.study_uid === studyUid);
  const track = course.tracks.find((it) => it.id === trackId);
  const seen = track && observationAt(track, studyUid);
  return viewerAddress({
    studyUid,
    seriesUid: visit?.series_uid ?? null,
    sopInstanceUid: seen?.sop_instance_uid ?? null,
    lesionId: seen?.lesion_id ?? null,
  });
}

export function rulesTitle(course: Course, name: string): string {
  return course.rule_sets.find((rules) => rules.name === name)?.title ?? name;
}

export function PatientView(props: PatientProps) {
  const { course, places, place, words } = props;
  const [highlight, setHighlight] = useState<string | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [chosen, setChosen] = useState<string | null>(null);
  const onOpen = useCallback(
    (studyUid: string, track: string | null) => places.go(visitAddress(course, studyUid, track)),
    [course, places],
  );
  const visit = useMemo(() => {
    const dated = datedVisits(course);
    return course.visits.find((it) => it.study_uid === chosen) ?? dated.at(-1)?.visit ?? course.visits.at(-1) ?? null;
  }, [course, chosen]);
  if (!visit) return <p className="mfu-empty">{words.t('patient.none')}</p>;
  const chart: ChartProps = { course, metric: place.metric, words, hidden, highlight, onHighlight: setHighlight, onOpen };
  const undated = course.visits.some((it) => !it.date);
  return (
    <>
      <Heading {...props} />
      <div className="mfu-grid">
        <section className="mfu-card mfu-span" aria-label={words.t('chart.timeline')}>
          <div className="mfu-bar-top">
            <h2>{words.t('chart.timeline')}</h2>
            <SizeSwitch metric={place.metric} words={words} onChange={(metric) => places.go(patientAddress(course.patient.id, { ...place, metric }), { replace: true })} />
          </div>
          <Timeline {...chart} />
          <Legend course={course} metric={place.metric} hidden={hidden} setHidden={setHidden} highlight={highlight === SUM ? null : highlight} setHighlight={setHighlight} words={words} />
          {undated && <p className="mfu-note">{words.t('chart.undated')}</p>}
        </section>
        <Assessment course={course} visit={visit} choose={setChosen} places={places} place={place} words={words} />
        <section className="mfu-card mfu-half" aria-label={words.t('chart.waterfall')}>
          <h2>{words.t('chart.waterfall')}</h2>
          <p className="mfu-small">{words.t('chart.waterfall.long')}</p>
          <Waterfall {...chart} />
        </section>
        <section className="mfu-card mfu-half" aria-label={words.t('chart.spider')}>
          <h2>{words.t('chart.spider')}</h2>
          <p className="mfu-small">{words.t('chart.spider.long')}</p>
          <Spider {...chart} />
        </section>
        <VisitTable course={course} chosen={visit.study_uid} choose={setChosen} highlight={highlight} setHighlight={setHighlight} places={places} words={words} />
        <PlanForm {...props} />
        <Events {...props} />
      </div>
    </>
  );
}

function Heading(props: PatientProps) {
  const { course, words } = props;
  const { patient } = course;
  const facts = [
    patient.patient_id,
    patient.birth_date && words.t('patient.born', { date: words.day(patient.birth_date) }),
    words.said('patient.sex', patient.sex),
    words.count('patient.visits', course.visits.length),
    words.count('patient.lesions', course.tracks.length),
    words.t('patient.rules', { rules: rulesTitle(course, course.rule_set), version: course.rules_version }),
  ];
  return (
    <section className="mfu-patient-head" aria-label={personName(patient.name)}>
      <div>
        <h2 data-cy="mfu-patient-name">{personName(patient.name) || words.t('patients.unnamed')}</h2>
        <p className="mfu-small">{facts.filter(Boolean).join(' · ')}</p>
        {course.pending_links > 0 && (
          <p className="mfu-warn" data-cy="mfu-pending">
            {words.count('patient.pending', course.pending_links)}
          </p>
        )}
      </div>
      <div className="mfu-actions">
        <Update {...props} />
        <Exports {...props} />
      </div>
    </section>
  );
}

const METRICS: readonly Metric[] = ['diameter', 'volume'];

function SizeSwitch({ metric, words, onChange }: { metric: Metric; words: PageWords; onChange: (metric: Metric) => void }) {
  return (
    <div className="mfu-switch" role="group" aria-label={words.t('size.title')}>
      {METRICS.map((each) => (
        <button key={each} type="button" aria-pressed={metric === each} data-cy={`mfu-size-${each}`} onClick={() => onChange(each)}>
          {words.t(`size.${each}`)}
        </button>
      ))}
    </div>
  );
}
