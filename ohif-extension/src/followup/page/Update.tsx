/** "Bring this patient up to date": queue what has no result, and follow the jobs. */
import { useEffect, useRef, useState } from 'react';
import { asProblem, Problem } from '../../api/problem';
import type { Job } from '../../api/types';
import type { FollowupClient, UpdateAnswer } from '../client';
import { FIRST_DELAY_MS, nextDelay, pause, whenVisible } from '../../state/poll';
import { isActive } from '../../state/state';
import type { PageWords } from '../words';
import type { PatientProps } from './PatientView';
import { ProblemNote } from './ProblemNote';

interface Progress {
  answer: UpdateAnswer;
  jobs: Job[];
}

/** After the last segmentation the service aligns the visits; looked for this many times. */
const FOLLOW_LOOKS = 8;

/** Ask for every job that has not ended until all have; tells each answer. */
async function follow(client: FollowupClient, ids: string[], signal: AbortSignal, tell: (jobs: Job[]) => void): Promise<Job[]> {
  const jobs = new Map<string, Job>();
  let delay_ms = FIRST_DELAY_MS;
  for (;;) {
    let changed = false;
    let offline = false;
    for (const id of ids.filter((each) => !jobs.has(each) || isActive(jobs.get(each) ?? null))) {
      try {
        const fresh = await client.job(id, signal);
        if (fresh) jobs.set(id, fresh);
        changed ||= fresh !== null;
      } catch (error) {
        const problem = asProblem(error);
        if (signal.aborted || !(problem.code === 'network' || problem.status >= 500)) throw error;
        offline = true;
      }
    }
    tell([...jobs.values()]);
    if (!offline && [...jobs.values()].every((job) => !isActive(job))) return [...jobs.values()];
    delay_ms = nextDelay(delay_ms, offline ? 'offline' : changed ? 'changed' : 'same');
    await pause(delay_ms, signal);
    await whenVisible(signal);
  }
}

export function Update({ course, client, reload, role, words }: PatientProps) {
  const [progress, setProgress] = useState<Progress | null>(null);
  const [running, setRunning] = useState<'no' | 'segmenting' | 'matching'>('no');
  const [problem, setProblem] = useState<Problem | null>(null);
  const work = useRef<AbortController | null>(null);
  useEffect(() => () => work.current?.abort(), []);
  const run = async () => {
    work.current?.abort();
    const mine = new AbortController();
    work.current = mine;
    setProblem(null);
    setProgress(null);
    setRunning('segmenting');
    try {
      const answer = await client.update(course.patient.id);
      setProgress({ answer, jobs: [] });
      if (answer.queued.length > 0) {
        await follow(client, answer.queued, mine.signal, (jobs) => setProgress({ answer, jobs }));
        setRunning('matching');
        await matched(client, course.patient.id, mine.signal);
        await reload();
      }
    } catch (error) {
      if (!mine.signal.aborted) setProblem(asProblem(error));
    } finally {
      if (!mine.signal.aborted) setRunning('no');
    }
  };
  const mayNot = role === 'viewer';
  return (
    <div className="mfu-update">
      <button type="button" className="mfu-button mfu-primary" data-cy="mfu-update" disabled={running !== 'no' || mayNot} title={words.t(mayNot ? 'update.role' : 'update.long')} onClick={() => void run()}>
        {words.t('update.button')}
      </button>
      {progress && <Report progress={progress} running={running} words={words} />}
      {problem && <ProblemNote problem={problem} words={words} />}
    </div>
  );
}

/** Wait until every visit but the first is aligned, or until that seems not to come. */
async function matched(client: FollowupClient, patient: string, signal: AbortSignal): Promise<void> {
  let delay_ms = FIRST_DELAY_MS;
  for (let look = 0; look < FOLLOW_LOOKS; look += 1) {
    const course = await client.course(patient, null, signal);
    if (course.visits.slice(1).every((visit) => visit.registration !== null || visit.result_id === null)) return;
    await pause(delay_ms, signal);
    delay_ms = nextDelay(delay_ms, 'same');
  }
}

function Report({ progress, running, words }: { progress: Progress; running: string; words: PageWords }) {
  const { answer, jobs } = progress;
  const total = answer.queued.length;
  const ended = jobs.filter((job) => !isActive(job));
  const done = ended.filter((job) => job.state === 'succeeded').length;
  const failed = ended.filter((job) => job.state === 'failed');
  const share = jobs.reduce((sum, job) => sum + (isActive(job) ? job.progress : 1), 0) / Math.max(1, total);
  return (
    <div role="status" className="mfu-small" data-cy="mfu-update-report">
      {total === 0 && <p>{words.t('update.nothing')}</p>}
      {running === 'segmenting' && total > 0 && (
        <>
          <p>{words.t('update.running', { done, total })}</p>
          <progress max={1} value={share} aria-label={words.t('update.running', { done, total })} />
        </>
      )}
      {running === 'matching' && <p>{words.t('update.following')}</p>}
      {running === 'no' && total > 0 && <p>{words.count('update.done', done)}</p>}
      <Causes stem="update.failed" codes={failed.map((job) => job.error?.code ?? 'internal')} words={words} />
      <Causes stem="update.skipped" codes={answer.skipped.map((one) => one.code)} words={words} />
    </div>
  );
}

function Causes({ stem, codes, words }: { stem: 'update.failed' | 'update.skipped'; codes: string[]; words: PageWords }) {
  if (codes.length === 0) return null;
  const text = (code: string) => words.panel.problem(new Problem({ code, title: code, detail: '', remedy: '' })).title;
  return (
    <>
      <p>{words.count(stem, codes.length)}</p>
      <ul>
        {[...new Set(codes)].map((code) => (
          <li key={code}>{text(code)}</li>
        ))}
      </ul>
    </>
  );
}
