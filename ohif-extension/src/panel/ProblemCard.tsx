/** A failure in plain words, and what to do about it. */
import type { Problem } from '../api/problem';
import type { PartProps } from './context';

type Shown = Pick<Problem, 'code' | 'title' | 'detail' | 'remedy'> & Partial<Pick<Problem, 'requestId'>>;

interface CardProps extends PartProps {
  problem: Shown;
  onRetry?: () => void;
  onClose?: () => void;
}

export function ProblemCard({ problem, onRetry, onClose, words }: CardProps) {
  const { title, remedy } = words.problem(problem);
  return (
    <div className="metia-problem" role="alert" data-cy="metia-problem" data-code={problem.code}>
      <p className="metia-problem-title">{title}</p>
      {problem.detail && problem.detail !== title && <p>{problem.detail}</p>}
      {remedy && <p className="metia-remedy">{remedy}</p>}
      {problem.requestId && <p className="metia-small">{words.t('problem.request', { id: problem.requestId })}</p>}
      {(onRetry || onClose) && (
        <div className="metia-buttons">
          {onRetry && (
            <button type="button" data-cy="metia-retry" onClick={onRetry}>
              {words.t('button.retry')}
            </button>
          )}
          {onClose && (
            <button type="button" data-cy="metia-close" onClick={onClose}>
              {words.t('button.close')}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

export function SessionCard({ words }: PartProps) {
  const here = window.location.pathname + window.location.search;
  return (
    <div className="metia-problem" role="alert" data-cy="metia-session-over">
      <p>{words.t('problem.session')}</p>
      <a className="metia-primary" href={`/login?next=${encodeURIComponent(here)}`}>
        {words.t('button.login')}
      </a>
    </div>
  );
}
