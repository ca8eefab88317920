import { createElement } from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { describe, expect, it } from 'vitest';
import type { FollowupClient } from '../../src/followup/client';
import { PatientView, visitAddress } from '../../src/followup/page/PatientView';
import { Places } from '../../src/followup/places';
import type { Course } from '../../src/followup/shape/course';
import { pageWords } from '../../src/followup/words';
import { assessed, course, seen, track, visit } from './courses';

function draw(shown: Course, { metric = 'diameter', language = 'en', role = 'reviewer' }: { metric?: 'diameter' | 'volume'; language?: 'en' | 'fr'; role?: string } = {}): string {
  return renderToStaticMarkup(
    createElement(PatientView, {
      course: shown,
      reload: async () => undefined,
      take: () => undefined,
      client: {} as FollowupClient,
      places: new Places(() => undefined),
      place: { patient: shown.patient.id, study: null, metric, rules: null },
      role,
      words: pageWords(language),
    }),
  );
}

const SIZES = [16, 10, 15];
const DAYS = ['2025-01-10', '2025-03-12', '2025-05-14'];
const three = () =>
  course(
    SIZES.map((sum_mm, n) => visit(n + 1, DAYS[n]!, { sum_mm, assessment: assessed(['BASELINE', 'PR', 'PD'][n]!, 1, n ? -5 : null) })),
    [track('M1', SIZES.map((mm, n) => seen(n + 1, mm, { change_percent: n ? (mm / 16 - 1) * 100 : null })))],
  );

describe('the page of a patient', () => {
  it('stands with charts, categories, table and plan', () => {
    const html = draw(three());
    for (const name of ['timeline', 'waterfall', 'spider']) expect(html).toContain(`data-cy="mfu-chart-${name}"`);
    expect(html.match(/data-cy="mfu-category"/g)).toHaveLength(3);
    expect(html.match(/data-cy="mfu-visit"/g)).toHaveLength(3);
    expect(html).toContain('Progressive disease');
    expect(html).toContain('data-cy="mfu-plan-save"');
    expect(draw(three(), { role: 'viewer' })).not.toContain('data-cy="mfu-plan-save"');
  });

  it('stands in French, and with volumes', () => {
    const html = draw(three(), { language: 'fr', metric: 'volume' });
    expect(html).toContain('Progression de la maladie');
    expect(html).toContain('Somme des volumes cibles, ml');
    expect(html).toContain('16,0 × 12,8 mm');
  });

  it('never makes markup of names and notes', () => {
    const hostile = three();
    const markup = '<img src="x" onerror="alert(1)">';
    hostile.patient.name = markup;
    hostile.tracks[0]!.label = markup;
    hostile.visits[2]!.description = markup;
    hostile.visits[2]!.assessment!.reasons = [{ code: 'merge', text: markup }];
    hostile.events = [{ id: 'e', date: '2025-02-01', kind: 'other', text: markup, track_id: 't-M1', author: markup }];
    expect(draw(hostile)).not.toContain('<img');
  });

  it('stands where next to nothing is known', () => {
    expect(draw(course([], []))).toContain('no result');
    const bare = draw(course([visit(1, null)], []));
    expect(bare).toContain('There is nothing to draw yet.');
    expect(bare).toContain('no date');
    const lost = visit(1, '2025-01-10', {
      description: null,
      series_uid: null,
      result_id: null,
      result_state: null,
      left_out: { code: 'all-rejected', text: 'Every result of this study was rejected.' },
    });
    expect(draw(course([lost], [track('M1', [seen(1, null)])]))).toContain('Every result of this study was rejected.');
    const unseen = course([visit(1, '2025-01-10', { assessment: assessed('NE') })], [track('M1', [])]);
    for (const metric of ['diameter', 'volume'] as const) expect(draw(unseen, { metric })).toContain('Not evaluable');
  });

  it('gives no number that is none', () => {
    const odd = three();
    odd.visits[1] = { ...odd.visits[1]!, sum_mm: 8, sum_complete: false };
    odd.tracks[0]!.observations[1] = seen(2, null, { state: 'too_small' });
    for (const metric of ['diameter', 'volume'] as const) expect(draw(odd, { metric })).not.toMatch(/NaN|Infinity|undefined/);
    expect(draw(odd)).toContain('(8.0 mm)');
  });
});

describe('the way to the images', () => {
  it('goes to the slice of a lesion, and to the visit where there is none', () => {
    const address = visitAddress(three(), '2.25.2', 't-M1');
    expect(address).toContain('StudyInstanceUIDs=2.25.2');
    expect(address).toContain('metiaLesion=l2');
    expect(address).toContain('initialSopInstanceUID=2.25.202');
    expect(visitAddress(three(), '2.25.2', null)).not.toContain('metiaLesion');
  });
});
