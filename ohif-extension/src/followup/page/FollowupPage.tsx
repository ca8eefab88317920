/** The page: patients on the left, the course of one of them beside. */
import { useEffect, useState, type KeyboardEvent } from 'react';
import type { FollowupClient } from '../client';
import { patientAddress, usePlace, viewerAddress, type Place, type Places } from '../places';
import type { PageWords } from '../words';
import { useCourse, useUser } from './loading';
import { PatientList } from './PatientList';
import { PatientView } from './PatientView';
import { ProblemNote } from './ProblemNote';

export interface PageProps {
  client: FollowupClient;
  places: Places;
  words: PageWords;
}

/** Keys pressed on the page are the page's, and not shortcuts of the viewer. */
const keepKeys = (event: KeyboardEvent) => event.stopPropagation();

export function FollowupPage({ client, places, words }: PageProps) {
  const place = usePlace(places);
  const { user, problem } = useUser(client);
  const [listShown, setListShown] = useState(true);
  const chosen = Boolean(place.patient || place.study);
  return (
    <div className="mfu" lang={words.language} data-cy="mfu-page" onKeyDown={keepKeys} onKeyUp={keepKeys}>
      <a className="mfu-skip" href="#mfu-course">
        {words.t('page.skip')}
      </a>
      <header className="mfu-head">
        <a {...places.link('/')} className="mfu-back" data-cy="mfu-studies">
          ‹ {words.t('page.studies')}
        </a>
        <h1>{words.t('page.title')}</h1>
        <button type="button" className="mfu-button mfu-toggle" aria-expanded={listShown} data-cy="mfu-toggle" onClick={() => setListShown(!listShown)}>
          {words.t(listShown ? 'patients.hide' : 'patients.show')}
        </button>
        <p className="mfu-notice" role="note" data-cy="mfu-notice">
          {words.panel.t('panel.notice')}
        </p>
        <span className="mfu-user">{user && (user.display_name || user.name)}</span>
      </header>
      <div className={listShown ? 'mfu-body' : 'mfu-body mfu-wide'}>
        {listShown && <PatientList client={client} places={places} place={place} words={words} />}
        <main id="mfu-course" className="mfu-main" tabIndex={-1}>
          {problem && <ProblemNote problem={problem} words={words} />}
          {chosen ? (
            <Chosen client={client} places={places} words={words} place={place} role={user?.role ?? 'viewer'} />
          ) : (
            <p className="mfu-empty">{words.t('page.choose')}</p>
          )}
        </main>
      </div>
    </div>
  );
}

function Chosen({ client, places, words, place, role }: PageProps & { place: Place; role: string }) {
  const course = useCourse(client, place);
  const found = course.value?.patient.id;
  useEffect(() => {
    // Asked for by a study: the address becomes that of its patient.
    if (place.study && !place.patient && found) places.go(patientAddress(found, place), { replace: true });
  }, [place, found, places]);
  if (course.problem) {
    const unknown = course.problem.status === 404 && place.study && !place.patient;
    if (!unknown) return <ProblemNote problem={course.problem} words={words} onRetry={() => void course.reload()} />;
    return (
      <div className="mfu-empty" data-cy="mfu-no-result">
        <p>{words.t('patient.study.none')}</p>
        <a {...places.link(viewerAddress({ studyUid: place.study! }))} className="mfu-button">
          {words.t('patient.study.open')}
        </a>
      </div>
    );
  }
  if (!course.value) {
    return (
      <p className="mfu-empty" role="status">
        {words.t('page.loading')}
      </p>
    );
  }
  return (
    <PatientView
      key={course.value.patient.id}
      course={course.value}
      reload={course.reload}
      take={course.take}
      client={client}
      places={places}
      place={place}
      role={role}
      words={words}
    />
  );
}
