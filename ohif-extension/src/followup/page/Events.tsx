/** Treatments and other events of a patient, as they stand on the timeline. */
import { useState } from 'react';
import { asProblem, type Problem } from '../../api/problem';
import { EVENT_KINDS, type Course, type EventKind } from '../shape/course';
import type { PageWords } from '../words';
import type { PatientProps } from './PatientView';
import { ProblemNote } from './ProblemNote';

export function Events({ course, take, client, place, role, words }: PatientProps) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const mayWrite = role !== 'viewer';
  const change = async (work: () => Promise<Course>): Promise<boolean> => {
    setBusy(true);
    setProblem(null);
    try {
      take(await work());
      return true;
    } catch (error) {
      setProblem(asProblem(error));
      return false;
    } finally {
      setBusy(false);
    }
  };
  const patient = course.patient.id;
  return (
    <section className="mfu-card mfu-events-card" aria-label={words.t('events.title')} data-cy="mfu-events">
      <h2>{words.t('events.title')}</h2>
      {course.events.length === 0 && <p className="mfu-small">{words.t('events.none')}</p>}
      <ul className="mfu-event-list">
        {[...course.events].sort((a, b) => a.date.localeCompare(b.date)).map((event) => {
          const [kind, date] = [words.said('event', event.kind), words.day(event.date)];
          const lesion = course.tracks.find((track) => track.id === event.track_id)?.label;
          return (
            <li key={event.id} data-cy="mfu-event">
              <span className="mfu-date">{date}</span>
              <strong>{[kind, lesion].filter(Boolean).join(' ')}</strong>
              <span className="mfu-grow">{event.text}</span>
              {mayWrite && (
                <button type="button" className="mfu-link" disabled={busy} aria-label={words.t('events.remove', { kind, date })} onClick={() => void change(() => client.removeEvent(patient, place.rules, event.id))}>
                  ×
                </button>
              )}
            </li>
          );
        })}
      </ul>
      {mayWrite ? (
        <NewEvent course={course} busy={busy} words={words} add={(event) => change(() => client.addEvent(patient, place.rules, event))} />
      ) : (
        <p className="mfu-small">{words.t('events.role')}</p>
      )}
      {problem && <ProblemNote problem={problem} words={words} />}
    </section>
  );
}

interface Draft {
  date: string;
  kind: EventKind;
  text: string;
  track_id: string | null;
}

interface NewEventProps {
  course: Course;
  busy: boolean;
  words: PageWords;
  add: (event: Draft) => Promise<boolean>;
}

const EMPTY: Draft = { date: '', kind: 'radiosurgery', text: '', track_id: null };

function NewEvent({ course, busy, words, add }: NewEventProps) {
  const [draft, setDraft] = useState(EMPTY);
  const change = (part: Partial<Draft>) => setDraft((old) => ({ ...old, ...part }));
  return (
    <form
      className="mfu-fields"
      onSubmit={(event) => {
        event.preventDefault();
        void add({ ...draft, text: draft.text.trim() }).then((done) => done && setDraft(EMPTY));
      }}
    >
      <label>
        {words.t('events.date')}
        <input type="date" required value={draft.date} data-cy="mfu-event-date" onChange={(event) => change({ date: event.target.value })} />
      </label>
      <label>
        {words.t('events.kind')}
        <select value={draft.kind} data-cy="mfu-event-kind" onChange={(event) => change({ kind: event.target.value as EventKind })}>
          {EVENT_KINDS.map((kind) => (
            <option key={kind} value={kind}>
              {words.said('event', kind)}
            </option>
          ))}
        </select>
      </label>
      <label>
        {words.t('events.lesion')}
        <select value={draft.track_id ?? ''} onChange={(event) => change({ track_id: event.target.value || null })}>
          <option value="">{words.t('events.lesion.none')}</option>
          {course.tracks.map((track) => (
            <option key={track.id} value={track.id}>
              {track.label}
            </option>
          ))}
        </select>
      </label>
      <label>
        {words.t('events.text')}
        <input type="text" maxLength={500} value={draft.text} data-cy="mfu-event-text" onChange={(event) => change({ text: event.target.value })} />
      </label>
      <button type="submit" className="mfu-button" data-cy="mfu-event-add" disabled={busy || !draft.date}>
        {words.t('events.add')}
      </button>
    </form>
  );
}
