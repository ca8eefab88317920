/** The signature under the assessment: whose it is, whether it still holds, and how to give it. */
import { useState } from 'react';
import type { SignedAssessment, VisitAssessment } from '../api/course';
import { dateTime } from '../format';
import { courseIsOf, visitOf } from '../state/comparison';
import { maySign, shownResult } from '../state/state';
import { Choice } from './Choice';
import { canDecide, type PartProps } from './context';

const CATEGORIES = ['CR', 'PR', 'SD', 'PD', 'NE', 'NON_CR_NON_PD', 'NED', 'INDETERMINATE', 'BASELINE'];

export function Signing(part: PartProps) {
  const { state, words } = part;
  const [asking, setAsking] = useState(false);
  const visit = visitOf(state.course, state.studyUid);
  if (!visit?.assessment || !courseIsOf(state.course, shownResult(state))) return null;
  const { signed, assessment } = visit;
  return (
    <div className="metia-stack" data-cy="metia-signing">
      {signed && <Signed {...part} signed={signed} />}
      {asking ? (
        <Ask {...part} assessment={assessment} onEnd={() => setAsking(false)} />
      ) : (
        (!signed || signed.stale) && (
          <button
            type="button"
            className="metia-secondary"
            data-cy="metia-sign"
            disabled={!maySign(state) || !canDecide(state) || state.unsaved}
            title={!maySign(state) ? words.t('sign.role') : state.unsaved ? words.t('sign.unsaved') : undefined}
            onClick={() => setAsking(true)}
          >
            {words.t(signed ? 'sign.again' : 'sign.button')}
          </button>
        )
      )}
    </div>
  );
}

function Signed({ signed, words, terms }: PartProps & { signed: SignedAssessment }) {
  const values = { category: terms.said('short', signed.category), name: signed.by, at: dateTime(signed.at, words.language) };
  return (
    <div className="metia-signed" data-cy="metia-signed" data-stale={signed.stale}>
      <p>
        <span aria-hidden="true">✍ </span>
        {words.t('sign.signed', values)}
        {signed.category !== signed.proposed_category && (
          <> ({words.t('sign.differs', { category: terms.said('short', signed.proposed_category) })})</>
        )}
      </p>
      {signed.comment && <p className="metia-small">“{signed.comment}”</p>}
      {signed.stale && <p className="metia-warning">{words.t('sign.stale')}</p>}
    </div>
  );
}

function Ask({ state, controller, words, terms, assessment, onEnd }: PartProps & { assessment: VisitAssessment; onEnd: () => void }) {
  const [category, setCategory] = useState(assessment.category);
  const [comment, setComment] = useState('');
  const name = state.user?.display_name || state.user?.name || '';
  const differs = category !== assessment.category;
  const ready = canDecide(state) && !state.unsaved && (!differs || comment.trim() !== '');
  const options = [...new Set([assessment.category, ...CATEGORIES])].map((value) => {
    const label = terms.said('category', value);
    return { value, label: value === assessment.category ? words.t('sign.proposed', { category: label }) : label };
  });
  const sign = async () => {
    const done = await controller.reading.sign(differs ? category : null, comment.trim());
    if (done) onEnd();
  };
  return (
    <form
      className="metia-stack metia-box"
      data-cy="metia-sign-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (ready) void sign();
      }}
    >
      <p>{words.t('sign.as', { name })}</p>
      <Choice
        label={words.t('sign.category')}
        name="sign-category"
        value={category}
        options={options}
        disabled={!canDecide(state)}
        onChoose={setCategory}
      />
      <label className="metia-label" htmlFor="metia-comment">
        {words.t(differs ? 'sign.comment.why' : 'sign.comment')}
      </label>
      <textarea
        id="metia-comment"
        data-cy="metia-comment"
        rows={2}
        maxLength={2000}
        value={comment}
        required={differs}
        onChange={(event) => setComment(event.target.value)}
      />
      <div className="metia-buttons">
        <button type="submit" className="metia-strong" data-cy="metia-sign-confirm" disabled={!ready}>
          {words.t('sign.confirm', { name })}
        </button>
        <button type="button" data-cy="metia-sign-back" onClick={onEnd}>
          {words.t('sign.back')}
        </button>
      </div>
    </form>
  );
}
