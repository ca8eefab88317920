/** Search and list of the patients; arrows go through it, Enter opens. */
import { useState, type KeyboardEvent } from 'react';
import type { FollowupClient } from '../client';
import { patientAddress, type Place, type Places } from '../places';
import { personName, type ListedPatient } from '../shape/course';
import type { PageWords } from '../words';
import { useDebounced, usePatients } from './loading';
import { ProblemNote } from './ProblemNote';

interface PatientListProps {
  client: FollowupClient;
  places: Places;
  place: Place;
  words: PageWords;
}

/** From the search field down into the list, and up again. */
function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
  if (step === 0) return;
  const stops = [...event.currentTarget.querySelectorAll<HTMLElement>('input, a')];
  const next = stops[stops.findIndex((stop) => stop === document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function PatientList({ client, places, place, words }: PatientListProps) {
  const [search, setSearch] = useState('');
  const asked = useDebounced(search.trim());
  const list = usePatients(client, asked);
  const patients = list.value ?? [];
  return (
    <nav className="mfu-patients" aria-label={words.t('patients.title')} onKeyDown={moveFocus}>
      <input
        type="search"
        data-cy="mfu-search"
        value={search}
        maxLength={64}
        placeholder={words.t('patients.search')}
        aria-label={words.t('patients.search')}
        onChange={(event) => setSearch(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && patients[0]) places.go(patientAddress(patients[0].id, { metric: place.metric, rules: null }));
        }}
      />
      <span className="mfu-hidden" role="status">
        {list.value && words.t('patients.shown', { count: patients.length })}
      </span>
      {list.problem && <ProblemNote problem={list.problem} words={words} />}
      <ul aria-busy={list.loading} data-cy="mfu-patients">
        {patients.map((patient) => (
          <Row key={patient.id} patient={patient} open={patient.id === place.patient} places={places} place={place} words={words} />
        ))}
      </ul>
      {list.value && patients.length === 0 && !list.loading && (
        <p className="mfu-empty">{asked ? words.t('patients.none.search', { search: asked }) : words.t('patients.none')}</p>
      )}
      {list.more && (
        <button type="button" className="mfu-button" data-cy="mfu-more" onClick={list.more}>
          {words.t('patients.more')}
        </button>
      )}
    </nav>
  );
}

interface RowProps {
  patient: ListedPatient;
  open: boolean;
  places: Places;
  place: Place;
  words: PageWords;
}

function Row({ patient, open, places, place, words }: RowProps) {
  return (
    <li>
      <a {...places.link(patientAddress(patient.id, { metric: place.metric, rules: null }))} aria-current={open ? 'page' : undefined} data-cy="mfu-patient">
        <span className="mfu-name">{personName(patient.name) || words.t('patients.unnamed')}</span>
        <span className="mfu-small">{patient.patient_id}</span>
        <span className="mfu-small">
          {words.count('patients.count', patient.visit_count)}
          {patient.last_visit && ` · ${words.day(patient.last_visit)}`}
        </span>
      </a>
    </li>
  );
}
