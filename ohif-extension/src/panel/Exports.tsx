/** What can leave: objects for the archive, and files for the reader. */
import type { Result } from '../api/types';
import { canDecide, type PartProps } from './context';

const STORED = ['sr', 'rtstruct'] as const;

export function Exports({ state, controller, words, result }: PartProps & { result: Result }) {
  const { course } = state;
  const patient = course && encodeURIComponent(course.patient.id);
  const files: { key: 'pdf' | 'csv' | 'xlsx' | 'fhir'; path: string }[] = [
    { key: 'pdf', path: `/studies/${encodeURIComponent(result.study_uid)}/report.pdf` },
    ...(patient
      ? (['csv', 'xlsx', 'fhir'] as const).map((key) => ({ key, path: `/patients/${patient}/export/${key}` }))
      : []),
  ];
  return (
    <details className="metia-inputs" data-cy="metia-exports">
      <summary>{words.t('export.title')}</summary>
      <div className="metia-stack">
        <p className="metia-label">{words.t('export.store')}</p>
        <div className="metia-buttons">
          {STORED.map((format) => (
            <button
              key={format}
              type="button"
              data-cy={`metia-store-${format}`}
              disabled={!canDecide(state) || result.lesions.length === 0}
              onClick={() => void controller.reading.storeExports([format])}
            >
              {words.t(`export.${format}`)}
            </button>
          ))}
        </div>
        <p className="metia-label">{words.t('export.download')}</p>
        <div className="metia-buttons">
          {files.map(({ key, path }) => (
            <button
              key={key}
              type="button"
              data-cy={`metia-download-${key}`}
              disabled={state.busy !== null}
              onClick={() => void controller.reading.download(path)}
            >
              {words.t(`export.${key}`)}
            </button>
          ))}
        </div>
        {state.busy === 'export' && <p className="metia-small" role="status">{words.t('export.running')}</p>}
      </div>
    </details>
  );
}
