/** A failure in words, with what to do about it. */
import type { Problem } from '../../api/problem';
import type { PageWords } from '../words';

export function ProblemNote({ problem, words, onRetry }: { problem: Problem; words: PageWords; onRetry?: () => void }) {
  const { title, remedy } = words.panel.problem(problem);
  const here = window.location.pathname + window.location.search;
  const over = problem.code === 'not-authenticated';
  return (
    <div className="mfu-problem" role="alert" data-cy="mfu-problem" data-code={problem.code}>
      <p className="mfu-strong">{over ? words.panel.t('problem.session') : title}</p>
      {!over && problem.detail && problem.detail !== title && <p>{problem.detail}</p>}
      {!over && remedy && <p>{remedy}</p>}
      {over && (
        <a className="mfu-button" href={`/login?next=${encodeURIComponent(here)}`}>
          {words.panel.t('button.login')}
        </a>
      )}
      {!over && onRetry && (
        <button type="button" className="mfu-button" onClick={onRetry}>
          {words.panel.t('button.retry')}
        </button>
      )}
    </div>
  );
}
