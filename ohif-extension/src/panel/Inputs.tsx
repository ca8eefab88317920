/** What no image tells and the criteria ask for: steroids, clinical state, non-target disease. */
import type { ReadingRequest } from '../api/requests';
import { visitOf } from '../state/comparison';
import { Choice } from './Choice';
import { canDecide, type PartProps } from './context';

/** Where what `missing` names is entered here; the certainty of a new lesion is asked beside it. */
const ENTERED: Record<string, string> = { steroids: 'steroid_use', clinical: 'clinical', non_target: 'non_target' };

export function Inputs({ state, controller, words }: PartProps) {
  const visit = visitOf(state.course, state.studyUid);
  if (!visit) return null;
  const { reading } = visit;
  const blocked = !canDecide(state);
  const missing = new Set(reading.missing.flatMap((name) => ENTERED[name] ?? []));
  const say = (change: Partial<ReadingRequest>) => void controller.reading.saveReading(change);
  const needed = (name: string) => (missing.has(name) ? words.t('inputs.missing') : undefined);
  return (
    <details className="metia-inputs" data-cy="metia-inputs">
      <summary>
        {words.t('inputs.title')}
        {missing.size > 0 && <span className="metia-needed">{words.count('inputs.missing', missing.size)}</span>}
      </summary>
      <div className="metia-stack">
        <Choice
          label={words.t('inputs.steroids')}
          name="steroid-use"
          value={reading.steroid_use}
          options={words.options('inputs.steroids', ['not_recorded', 'none', 'physiological', 'pharmacological'])}
          needed={needed('steroid_use')}
          disabled={blocked}
          onChoose={(steroid_use) => say({ steroid_use })}
        />
        <Choice
          label={words.t('inputs.change')}
          name="steroid-change"
          value={reading.steroid_change ?? ''}
          options={[
            { value: '', label: words.t('inputs.change.derived') },
            ...words.options('inputs.change', ['not_recorded', 'stable', 'decreased', 'increased']),
          ]}
          needed={needed('steroid_change')}
          disabled={blocked}
          onChoose={(value) => say({ steroid_change: value || null })}
        />
        <Dose dose_mg={reading.steroid_dose_mg} blocked={blocked} label={words.t('inputs.dose')} say={say} />
        <Choice
          label={words.t('inputs.clinical')}
          name="clinical"
          value={reading.clinical}
          options={words.options('inputs.clinical', [
            'not_recorded', 'stable', 'better', 'worse_due_to_tumour', 'worse_other_cause',
          ])}
          needed={needed('clinical')}
          disabled={blocked}
          onChoose={(clinical) => say({ clinical })}
        />
        <Choice
          label={words.t('inputs.nontarget')}
          name="non-target"
          value={reading.non_target ?? ''}
          options={[
            { value: '', label: words.t('inputs.nontarget.derived') },
            ...words.options('inputs.nontarget', [
              'none', 'complete_response', 'non_cr_non_pd', 'unequivocal_progression', 'not_assessed',
            ]),
          ]}
          needed={needed('non_target')}
          disabled={blocked}
          onChoose={(value) => say({ non_target: value || null })}
        />
        <label className="metia-check">
          <input
            type="checkbox"
            data-cy="metia-technique"
            checked={reading.technique_changed}
            disabled={blocked}
            onChange={(event) => say({ technique_changed: event.target.checked })}
          />
          {words.t('inputs.technique')}
        </label>
      </div>
    </details>
  );
}

interface DoseProps {
  dose_mg: number | null;
  blocked: boolean;
  label: string;
  say: (change: Partial<ReadingRequest>) => void;
}

/** Sent when the field is left: every key on its own would be a change of its own. */
function Dose({ dose_mg, blocked, label, say }: DoseProps) {
  const send = (input: HTMLInputElement) => {
    if (!input.validity.valid) return;
    const steroid_dose_mg = input.value === '' ? null : Math.round(input.valueAsNumber * 10) / 10;
    if (steroid_dose_mg !== dose_mg) say({ steroid_dose_mg });
  };
  return (
    <div className="metia-choice">
      <label htmlFor="metia-dose">{label}</label>
      <input
        id="metia-dose"
        data-cy="metia-dose"
        type="number"
        min={0}
        max={200}
        step={0.1}
        key={dose_mg}
        defaultValue={dose_mg ?? ''}
        disabled={blocked}
        onBlur={(event) => send(event.currentTarget)}
        onKeyDown={(event) => {
          if (event.key === 'Enter') send(event.currentTarget);
        }}
      />
    </div>
  );
}
