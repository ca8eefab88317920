/** What a reader can decide about one lesion of this visit. */
import { useState } from 'react';
import type { Lesion } from '../api/types';
import { millilitres, millimetres, percent } from '../format';
import type { Row } from '../state/comparison';
import { canDecide, canReview, type PartProps } from './context';
import { LinkChoice } from './LinkChoice';
import { TrackChoices } from './TrackChoices';

export function LesionDetail(part: PartProps & { row: Row }) {
  const { row } = part;
  return (
    <div className="metia-stack" data-cy="metia-detail">
      {row.lesion && <Measured {...part} lesion={row.lesion} />}
      {row.lesion && <Decide {...part} lesion={row.lesion} />}
      {row.lesion && <LinkChoice {...part} lesion={row.lesion} />}
      {row.track && <TrackChoices {...part} track={row.track} />}
      {row.lesion && <Name {...part} lesion={row.lesion} />}
    </div>
  );
}

type LesionProps = PartProps & { row: Row; lesion: Lesion };

function Measured({ row, lesion, words }: LesionProps) {
  const { language } = words;
  const values = {
    size: `${millimetres(lesion.longest_diameter_mm, language)} × ${millimetres(lesion.perpendicular_diameter_mm, language)}`,
    volume: millilitres(lesion.volume_ml, language),
  };
  const why = row.now?.measurable === false ? row.now.measurable_reasons : [];
  return (
    <p className="metia-small" data-cy="metia-measures">
      {lesion.probability === null
        ? words.t('lesion.drawn', values)
        : words.t('lesion.measures', { ...values, confidence: percent(lesion.probability, language) })}
      {why.length > 0 && (
        <>
          <br />
          {words.t('lesion.unmeasurable')} {why.map((code) => words.say('measurable', code, 'measurable.unknown')).join(', ')}
        </>
      )}
    </p>
  );
}

function Decide({ lesion, state, controller, words }: LesionProps) {
  const review = lesion.review ?? 'unverified';
  const press = (wanted: 'accepted' | 'rejected') => {
    if (review === wanted) return void controller.reading.reopen([lesion]);
    void (wanted === 'accepted' ? controller.reading.accept([lesion]) : controller.reading.reject([lesion]));
  };
  const blocked = !canDecide(state);
  const standing = !canReview(state);
  const why = standing && !blocked ? words.t('lesion.signed') : undefined;
  return (
    <div className="metia-buttons">
      <button type="button" data-cy="metia-accept" aria-pressed={review === 'accepted'} title={why} disabled={standing} onClick={() => press('accepted')}>
        ✓ {words.t('lesion.accept')}
      </button>
      <button
        type="button"
        data-cy="metia-reject"
        aria-pressed={review === 'rejected'}
        title={why ?? words.t('lesion.reject.long')}
        disabled={standing}
        onClick={() => press('rejected')}
      >
        ✕ {words.t('lesion.reject')}
      </button>
      <button
        type="button"
        data-cy="metia-delete"
        title={words.t(state.unsaved ? 'lesion.unsaved' : 'lesion.delete.long')}
        disabled={blocked || state.unsaved}
        onClick={() => void controller.reading.remove(lesion)}
      >
        {words.t('lesion.delete')}
      </button>
    </div>
  );
}

function Name({ lesion, state, controller, words }: LesionProps) {
  const [name, setName] = useState(lesion.name);
  const changed = name.trim() !== '' && name.trim() !== lesion.name;
  return (
    <form
      className="metia-choice"
      onSubmit={(event) => {
        event.preventDefault();
        if (changed) void controller.reading.rename(lesion, name.trim());
      }}
    >
      <label htmlFor={`metia-name-${lesion.id}`}>{words.t('lesion.rename')}</label>
      <span className="metia-inline">
        <input
          id={`metia-name-${lesion.id}`}
          data-cy="metia-name"
          value={name}
          maxLength={64}
          title={state.unsaved ? words.t('lesion.unsaved') : undefined}
          disabled={!canDecide(state) || state.unsaved}
          onChange={(event) => setName(event.target.value)}
        />
        {changed && (
          <button type="submit" data-cy="metia-rename" disabled={!canDecide(state)}>
            {words.t('lesion.save')}
          </button>
        )}
      </span>
    </form>
  );
}

