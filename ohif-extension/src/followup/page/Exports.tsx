/** What leaves: files made by the service, and the page on paper. */
import { useState } from 'react';
import { asProblem, type Problem } from '../../api/problem';
import { saveFile } from '../../panel/saveFile';
import type { ExportFormat } from '../client';
import type { PatientProps } from './PatientView';
import { ProblemNote } from './ProblemNote';

const FORMATS: readonly ExportFormat[] = ['pdf', 'csv', 'xlsx', 'fhir'];

export function Exports({ course, client, role, words }: Pick<PatientProps, 'course' | 'client' | 'role' | 'words'>) {
  const mayNot = role === 'viewer';
  const [running, setRunning] = useState<ExportFormat | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [identifiers, setIdentifiers] = useState(false);
  const run = async (format: ExportFormat) => {
    setRunning(format);
    setProblem(null);
    try {
      const options = { rules: course.rule_set, language: words.language, identifiers };
      const { name, content } = await client.export(course.patient.id, format, options);
      saveFile(content, name);
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      setRunning(null);
    }
  };
  return (
    <div className="mfu-exports">
      <div className="mfu-buttons" role="group" aria-label={words.t('export.title')}>
        {FORMATS.map((format) => (
          <button key={format} type="button" className="mfu-button" data-cy={`mfu-export-${format}`} disabled={running !== null || mayNot} title={mayNot ? words.t('update.role') : undefined} onClick={() => void run(format)}>
            {running === format ? words.t('export.running') : words.t(`export.${format}`)}
          </button>
        ))}
        <button type="button" className="mfu-button" onClick={() => window.print()}>
          {words.t('export.print')}
        </button>
      </div>
      {!mayNot && (
        <label className="mfu-check" title={words.t('export.identifiers.long')}>
          <input type="checkbox" checked={identifiers} data-cy="mfu-export-identifiers" onChange={(event) => setIdentifiers(event.target.checked)} />
          {words.t('export.identifiers')}
        </label>
      )}
      {problem && <ProblemNote problem={problem} words={words} />}
    </div>
  );
}
