/** What the reader lays down for a patient: criteria, dates, baseline, new starts. */
import { useState } from 'react';
import { asProblem, type Problem } from '../../api/problem';
import type { PlanInput } from '../client';
import type { Course, Plan } from '../shape/course';
import type { PageWords } from '../words';
import type { PatientProps } from './PatientView';
import { ProblemNote } from './ProblemNote';

const mayPlan = (role: string) => role === 'reviewer' || role === 'admin';

const same = (a: Plan, b: Plan) => JSON.stringify(a) === JSON.stringify(b);

export function PlanForm({ course, take, reload, client, place, role, words }: PatientProps) {
  const [plan, setPlan] = useState(course.plan);
  const [stored, setStored] = useState(course.plan);
  // Another revision than the one the form began with: its fields show what is stored now.
  if (stored.revision !== course.plan.revision) {
    setStored(course.plan);
    setPlan(course.plan);
  }
  const [saving, setSaving] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const changed = !same(plan, course.plan);
  const change = (part: Partial<Plan>) => setPlan((old) => ({ ...old, ...part }));
  const save = async () => {
    setSaving(true);
    setProblem(null);
    try {
      take(await client.savePlan(course.patient.id, place.rules, plan as PlanInput));
    } catch (error) {
      const found = asProblem(error);
      setProblem(found);
      if (found.code === 'edit-conflict') await reload();
    } finally {
      setSaving(false);
    }
  };
  return (
    <section className="mfu-card mfu-plan" aria-label={words.t('plan.title')} data-cy="mfu-plan">
      <h2>{words.t('plan.title')}</h2>
      {!mayPlan(role) && <p className="mfu-small">{words.t('plan.role')}</p>}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <fieldset disabled={!mayPlan(role) || saving}>
          <Fields course={course} plan={plan} change={change} words={words} />
          <Resets course={course} plan={plan} change={change} words={words} />
          {mayPlan(role) && (
            <div className="mfu-buttons">
              <button type="submit" className="mfu-button mfu-primary" data-cy="mfu-plan-save" disabled={!changed}>
                {words.t(saving ? 'plan.saving' : 'plan.save')}
              </button>
              <button type="button" className="mfu-button" disabled={!changed} onClick={() => setPlan(course.plan)}>
                {words.t('plan.discard')}
              </button>
              <span role="status" className="mfu-small">
                {changed && words.t('plan.changed')}
              </span>
            </div>
          )}
        </fieldset>
      </form>
      {problem?.code === 'edit-conflict' && <p className="mfu-warn" role="alert" data-cy="mfu-plan-conflict">{words.t('plan.conflict')}</p>}
      {problem && problem.code !== 'edit-conflict' && <ProblemNote problem={problem} words={words} />}
    </section>
  );
}

interface PartProps {
  course: Course;
  plan: Plan;
  change: (part: Partial<Plan>) => void;
  words: PageWords;
}

function Fields({ course, plan, change, words }: PartProps) {
  return (
    <div className="mfu-fields">
      <label>
        {words.t('plan.rules')}
        <select value={plan.rule_set} data-cy="mfu-plan-rules" onChange={(event) => change({ rule_set: event.target.value })}>
          {course.rule_sets.map(({ name, title }) => (
            <option key={name} value={name}>
              {title}
            </option>
          ))}
        </select>
      </label>
      <label>
        {words.t('plan.baseline')}
        <VisitSelect course={course} value={plan.baseline_study_uid} none={words.t('plan.baseline.automatic')} words={words} onChange={(uid) => change({ baseline_study_uid: uid })} />
      </label>
      <label>
        {words.t('plan.treatment')}
        <input type="date" value={plan.treatment_start ?? ''} data-cy="mfu-plan-treatment" onChange={(event) => change({ treatment_start: event.target.value || null })} />
      </label>
      <label>
        {words.t('plan.immunotherapy')}
        <input type="date" value={plan.immunotherapy_start ?? ''} data-cy="mfu-plan-immunotherapy" onChange={(event) => change({ immunotherapy_start: event.target.value || null })} />
      </label>
    </div>
  );
}

interface VisitSelectProps {
  course: Course;
  value: string | null;
  none: string;
  words: PageWords;
  onChange: (studyUid: string | null) => void;
}

function VisitSelect({ course, value, none, words, onChange }: VisitSelectProps) {
  return (
    <select value={value ?? ''} onChange={(event) => onChange(event.target.value || null)}>
      <option value="">{none}</option>
      {course.visits.map((visit) => (
        <option key={visit.study_uid} value={visit.study_uid}>
          {words.day(visit.date)} {visit.description}
        </option>
      ))}
    </select>
  );
}

function Resets({ course, plan, change, words }: PartProps) {
  const [reason, setReason] = useState(words.t('plan.reset.default'));
  const dateOf = (uid: string) => words.day(course.visits.find((visit) => visit.study_uid === uid)?.date ?? null);
  const add = (uid: string | null) => {
    if (!uid || !reason.trim() || plan.resets.some((reset) => reset.study_uid === uid)) return;
    change({ resets: [...plan.resets, { study_uid: uid, reason: reason.trim() }] });
  };
  return (
    <div className="mfu-resets">
      {plan.resets.length > 0 && (
        <ul aria-label={words.t('plan.resets')}>
          {plan.resets.map((reset) => (
            <li key={reset.study_uid}>
              {words.t('plan.resets')} {dateOf(reset.study_uid)}: {reset.reason}
              <button type="button" className="mfu-link" aria-label={words.t('plan.reset.remove', { date: dateOf(reset.study_uid) })} onClick={() => change({ resets: plan.resets.filter((other) => other !== reset) })}>
                ×
              </button>
            </li>
          ))}
        </ul>
      )}
      <div className="mfu-fields">
        <label>
          {words.t('plan.reset.reason')}
          <input type="text" maxLength={500} value={reason} onChange={(event) => setReason(event.target.value)} />
        </label>
        <label>
          {words.t('plan.resets')}
          <VisitSelect course={course} value={null} none={words.t('plan.reset.add')} words={words} onChange={add} />
        </label>
      </div>
    </div>
  );
}
