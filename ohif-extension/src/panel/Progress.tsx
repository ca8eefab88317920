/** How far the job is, in words and as a bar; read out politely to screen readers. */
import type { Job } from '../api/types';
import type { Key, Translator } from '../i18n';
import { isActive, isUnasked } from '../state/state';
import { ProblemCard } from './ProblemCard';
import type { PartProps } from './context';

const STEPS = ['waiting', 'fetch', 'volume', 'predict', 'lesions', 'segmentation', 'store', 'record'] as const;

function stepName(job: Job, words: Translator): string {
  const step = STEPS.find((known) => known === job.step) ?? (job.state === 'queued' ? 'waiting' : undefined);
  return step ? words.t(`step.${step}` as Key) : (job.step ?? words.t('progress.starting'));
}

function queueText(job: Job, words: Translator): string | null {
  if (job.state !== 'queued' || job.queue_position === null) return null;
  const ahead = Math.max(0, job.queue_position - 1);
  return ahead === 0 ? words.t('progress.queue.next') : words.count('progress.queue', ahead);
}

export function Progress(part: PartProps) {
  const { state, controller, words } = part;
  const { job } = state;
  if (job?.state === 'failed' && job.error) return <ProblemCard {...part} problem={job.error} />;
  if (job?.state === 'cancelled') {
    return (
      <p className="metia-small" role="status" data-cy="metia-cancelled">
        {words.t('progress.cancelled')}
      </p>
    );
  }
  if (!state.starting && !isActive(job)) return null;
  const percent = Math.round((job?.progress ?? 0) * 100);
  const cancelling = state.cancelling || Boolean(job?.cancel_requested);
  const queue = job && queueText(job, words);
  return (
    <div className="metia-progress" data-cy="metia-progress">
      <div className="metia-row">
        <span role="status" aria-live="polite" data-cy="metia-step">
          {job ? stepName(job, words) : words.t('progress.starting')}
        </span>
        <span data-cy="metia-percent">{percent}{words.language === 'fr' ? '\u202f' : ''}%</span>
      </div>
      <progress max={100} value={percent} aria-label={words.t('progress.title')} />
      {isUnasked(job) && <p className="metia-small" data-cy="metia-unasked">{words.t('progress.unasked')}</p>}
      {queue && <p className="metia-small" data-cy="metia-queue">{queue}</p>}
      {job && job.attempt > 1 && (
        <p className="metia-small">{words.t('progress.attempt', { attempt: job.attempt, of: job.max_attempts })}</p>
      )}
      {state.offline && <p className="metia-warning">{words.t('progress.offline')}</p>}
      <button
        type="button"
        className="metia-secondary"
        data-cy="metia-cancel"
        disabled={!job || cancelling}
        onClick={() => void controller.cancel()}
      >
        {words.t(cancelling ? 'button.cancelling' : 'button.cancel')}
      </button>
    </div>
  );
}
