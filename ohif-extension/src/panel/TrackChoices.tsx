/** What a reader says of a lesion at this visit, beyond what was measured. */
import type { Track, TrackReading } from '../api/course';
import type { Row } from '../state/comparison';
import { Choice } from './Choice';
import { canDecide, type PartProps } from './context';

type Props = PartProps & { row: Row; track: Track };

export function TrackChoices(props: Props) {
  const { row, track, state, controller, words } = props;
  const reading = row.now?.reading ?? null;
  const blocked = !canDecide(state);
  const say = (change: Partial<TrackReading>) => void controller.reading.readTrack(track.id, change);
  return (
    <>
      {row.status.includes('new') && (
        <Choice
          label={words.t('certainty.title')}
          name="certainty"
          value={reading?.certainty ?? ''}
          needed={reading?.certainty ? undefined : words.t('inputs.missing')}
          options={[
            { value: '', label: words.t('certainty.none') },
            ...words.options('certainty', ['unequivocal', 'equivocal', 'not_tumour']),
          ]}
          disabled={blocked}
          onChoose={(value) => say({ certainty: value || null })}
        />
      )}
      {row.status.includes('reappeared') && (
        <Choice
          label={words.t('reappearance.title')}
          name="reappearance"
          value={reading?.reappearance ?? 'undetermined'}
          options={words.options('reappearance', ['undetermined', 'tumour', 'not_tumour'])}
          disabled={blocked}
          onChoose={(value) => say({ reappearance: value })}
        />
      )}
      <StateChoice {...props} reading={reading} say={say} />
      <Choice
        label={words.t('kind.title')}
        name="kind"
        value={track.kind}
        options={words.options('kind', [
          'parenchymal', 'solid_nodule', 'cystic_only', 'dural', 'bone', 'leptomeningeal', 'ill_defined', 'soft_tissue',
        ])}
        disabled={blocked}
        onChoose={(kind) => void controller.reading.changeTrack(track.id, { kind })}
      />
      {track.role_by === 'reader' && (
        <button
          type="button"
          className="metia-link"
          data-cy="metia-role-automatic"
          disabled={blocked}
          onClick={() => void controller.reading.changeTrack(track.id, { role: null })}
        >
          {words.t('lesion.target.automatic')}
        </button>
      )}
    </>
  );
}

interface StateProps extends Props {
  reading: TrackReading | null;
  say: (change: Partial<TrackReading>) => void;
}

/** What a state asks for besides is sent with it; the first answer of each list stands until another is given. */
function StateChoice({ row, track, state, words, reading, say }: StateProps) {
  const blocked = !canDecide(state);
  const others = (state.course?.tracks ?? []).filter((it) => it.id !== track.id);
  const day = state.course?.visits.find((it) => it.study_uid === state.studyUid)?.date ?? null;
  const value = reading?.state ?? '';
  const choose = (wanted: string) =>
    say({
      state: wanted || null,
      reason: wanted === 'not_assessed' ? 'not_read' : null,
      into_track_id: wanted === 'merged' ? (others[0]?.id ?? null) : null,
      treated_on: wanted === 'locally_treated' ? day : null,
      modality: wanted === 'locally_treated' ? 'radiosurgery' : null,
    });
  const states = ['too_small', 'absent', 'not_assessed', 'locally_treated', ...(others.length > 0 ? ['merged'] : []), 'split'];
  return (
    <>
      <Choice
        label={words.t('state.title')}
        name="at-visit"
        value={value}
        options={[{ value: '', label: words.t(row.lesion ? 'state.measured' : 'state.gone') }, ...words.options('state', states)]}
        disabled={blocked}
        onChoose={choose}
      />
      {value === 'not_assessed' && (
        <Choice
          label={words.t('state.reason')}
          name="state-reason"
          value={reading?.reason ?? 'other'}
          options={words.options('state.reason', ['not_imaged', 'image_quality', 'artefact', 'no_contrast', 'not_read', 'other'])}
          disabled={blocked}
          onChoose={(reason) => say({ reason })}
        />
      )}
      {value === 'merged' && (
        <Choice
          label={words.t('state.into')}
          name="state-into"
          value={reading?.into_track_id ?? ''}
          options={others.map((it) => ({ value: it.id, label: it.label }))}
          disabled={blocked}
          onChoose={(into_track_id) => say({ into_track_id })}
        />
      )}
      {value === 'locally_treated' && <Treatment reading={reading} say={say} blocked={blocked} words={words} />}
    </>
  );
}

function Treatment({ reading, say, blocked, words }: Pick<StateProps, 'reading' | 'say' | 'words'> & { blocked: boolean }) {
  return (
    <>
      <div className="metia-choice">
        <label htmlFor="metia-treated">{words.t('state.treated')}</label>
        <input
          id="metia-treated"
          type="date"
          data-cy="metia-treated-on"
          key={reading?.treated_on}
          defaultValue={reading?.treated_on ?? ''}
          disabled={blocked}
          onBlur={(event) => {
            const { value } = event.target;
            if (value && value !== reading?.treated_on) say({ treated_on: value });
          }}
        />
      </div>
      <Choice
        label={words.t('state.modality')}
        name="modality"
        value={reading?.modality ?? 'other'}
        options={words.options('state.modality', ['radiosurgery', 'radiotherapy', 'surgery', 'ablation', 'other'])}
        disabled={blocked}
        onChoose={(modality) => say({ modality })}
      />
      <label className="metia-check">
        <input
          type="checkbox"
          data-cy="metia-necrosis"
          checked={reading?.radionecrosis_suspected ?? false}
          disabled={blocked}
          onChange={(event) => say({ radionecrosis_suspected: event.target.checked })}
        />
        {words.t('state.necrosis')}
      </label>
    </>
  );
}
