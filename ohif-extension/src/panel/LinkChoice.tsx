/** Which lesion of the patient a finding is: proposed, confirmed, or for the reader to say. */
import type { Lesion } from '../api/types';
import { millimetres } from '../format';
import { observationAt, previousVisit, type Row } from '../state/comparison';
import { Choice } from './Choice';
import { canDecide, type PartProps } from './context';

export function LinkChoice({ row, lesion, state, controller, words }: PartProps & { row: Row; lesion: Lesion }) {
  const { course, studyUid } = state;
  // With one visit there is nothing to link to.
  if (!course || course.visits.length < 2 || !studyUid) return null;
  const link = row.now?.link ?? null;
  const own = row.track?.id ?? '';
  const options = [
    ...(own ? [] : [{ value: '', label: words.t('link.none') }]),
    ...course.tracks
      .filter((track) => track.id === own || track.observations.some((it) => it.lesion_id && it.study_uid !== studyUid))
      .map((track) => ({ value: track.id, label: track.label })),
    { value: 'new', label: words.t('link.new') },
  ];
  const choose = (value: string) => {
    if (value === own || value === '') return;
    void (value === 'new' ? controller.reading.link(lesion, 'new') : controller.reading.link(lesion, 'link', value));
  };
  const previous = previousVisit(course, studyUid);
  const was = row.track && previous && observationAt(row.track, previous.study_uid);
  return (
    <div className="metia-stack">
      <Choice
        label={words.t('link.title')}
        name="link"
        value={own}
        options={options}
        disabled={!canDecide(state)}
        onChoose={choose}
      />
      {link?.cost_mm != null && was?.lesion_id && (
        <p className="metia-small">
          {words.t('link.distance', { distance: millimetres(link.cost_mm, words.language) })}
        </p>
      )}
      {link?.state === 'pending' && (
        <button
          type="button"
          className="metia-secondary"
          data-cy="metia-confirm-link"
          disabled={!canDecide(state)}
          onClick={() => void controller.reading.link(lesion, 'confirm')}
        >
          {words.t('link.confirm', { label: row.track?.label ?? '' })}
        </button>
      )}
    </div>
  );
}
