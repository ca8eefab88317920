/** The right-hand panel: from the choice of the series to the list of lesions. */
import type { KeyboardEvent } from 'react';
import { obstacle, shownResult } from '../state/state';
import { useStore, type PanelProps, type PartProps } from './context';
import { ConflictCard, Unsaved } from './Correcting';
import { Footer } from './Footer';
import { ModelLine } from './ModelLine';
import { ProblemCard, SessionCard } from './ProblemCard';
import { Progress } from './Progress';
import { ResultView } from './ResultView';
import { SeriesChooser } from './SeriesChooser';
import { UndoBar } from './UndoBar';

/** Keys pressed in the panel are the panel's: the viewer's shortcuts would swallow Enter. */
const keepKeys = (event: KeyboardEvent) => event.stopPropagation();

export function Panel({ store, controller, words, terms }: PanelProps) {
  const state = useStore(store);
  const part: PartProps = { state, controller, words, terms };
  return (
    <section
      className="metia"
      data-cy="metia-panel"
      lang={words.language}
      aria-label={words.t('panel.title')}
      onKeyDown={keepKeys}
      onKeyUp={keepKeys}
    >
      <p className="metia-notice" role="note" data-cy="metia-notice">
        {words.t('panel.notice')}
      </p>
      <div className="metia-scroll">
        {state.session === 'over' ? <SessionCard {...part} /> : <Work {...part} />}
      </div>
      {state.session !== 'over' && <Dock {...part} />}
      <Footer {...part} />
    </section>
  );
}

function Work(part: PartProps) {
  const { state } = part;
  const start = (
    <div className="metia-card">
      <SeriesChooser {...part} />
      <ModelLine {...part} />
      <Run {...part} />
      <Progress {...part} />
    </div>
  );
  // With a result at hand it comes first; a job in hand always does.
  const first = !shownResult(state) || state.starting || state.job !== null;
  return (
    <>
      {first && start}
      <ResultView {...part} />
      {!first && start}
    </>
  );
}

/** What must be seen wherever the panel is scrolled to: failures, and what is not saved. */
function Dock(part: PartProps) {
  const { state, controller } = part;
  return (
    <div className="metia-dock">
      {state.problem && (
        <ProblemCard
          {...part}
          problem={state.problem}
          onRetry={() => controller.reload()}
          onClose={() => controller.dismissProblem()}
        />
      )}
      {state.conflict && <ConflictCard {...part} conflict={state.conflict} />}
      {state.unsaved && !state.conflict && <Unsaved {...part} />}
      {state.undo && <UndoBar {...part} />}
    </div>
  );
}

function Run({ state, controller, words }: PartProps) {
  const why = obstacle(state);
  if (why === 'busy') return null;
  return (
    <>
      <button
        type="button"
        className="metia-primary"
        data-cy="metia-run"
        disabled={why !== null}
        aria-describedby={why ? 'metia-why-not' : undefined}
        onClick={() => void controller.run()}
      >
        {words.t(state.results.length > 0 ? 'button.run.again' : 'button.run')}
      </button>
      {why && (
        <p id="metia-why-not" className="metia-small" data-cy="metia-why-not">
          {words.t(`obstacle.${why}`)}
        </p>
      )}
    </>
  );
}
