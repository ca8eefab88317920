import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EVENT_KINDS } from '../../src/followup/shape/course';
import { pageWords } from '../../src/followup/words';
import en from '../../src/followup/words/en';
import fr from '../../src/followup/words/fr';
import { reasons } from '../../src/followup/words/reasons';

const source = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const found = (text: string, entry: RegExp) => [...text.matchAll(entry)].map((match) => match[1] ?? '');
const between = (text: string, from: string, to: string) => text.slice(text.indexOf(from), text.indexOf(to, text.indexOf(from)));

describe('the words of the page', () => {
  it('are there in both languages, with the same places', () => {
    expect(Object.keys(fr).sort()).toEqual(Object.keys(en).sort());
    expect(Object.values({ ...en, ...fr }).filter((words) => words.trim() === '')).toEqual([]);
    const places = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();
    for (const key of Object.keys(en) as (keyof typeof en)[]) expect(places(fr[key]), key).toEqual(places(en[key]));
  });

  it('know every reason of an assessment in French', () => {
    const codes = found(source('segmentation/followup/reasons.py'), /^ {4}"([a-z0-9-]+)":/gm);
    expect(codes.length).toBeGreaterThan(50);
    const left = found(between(source('segmentation/followup/course.py'), 'LEFT_OUT = {', '\n}'), /^ {4}"([a-z-]+)":/gm);
    expect(left.length).toBeGreaterThan(2);
    expect([...codes, ...left].filter((code) => !reasons[code])).toEqual([]);
  });

  it('know every category, state and non-target state of the rules', () => {
    const values = (file: string, name: string) =>
      found(between(source(`segmentation/followup/${file}`), `class ${name}(StrEnum)`, '\n\n\n'), /^ {4}[A-Z_]+ = "([^"]+)"/gm);
    const expected: [string, string[]][] = [
      ['category', values('results.py', 'Category')],
      ['state', values('case.py', 'State')],
      ['nontarget', values('case.py', 'NonTarget')],
      ['role', values('case.py', 'Role')],
      ['event', [...EVENT_KINDS]],
      ['why', found(between(source('segmentation/followup/schemas.py'), 'NOT_ASSESSED_REASONS = (', '\n)'), /^ {4}"([a-z_]+)"/gm)],
      ['missing', found(source('segmentation/followup/course_document.py'), /missing\.append\("([a-z_]+)"\)/g)],
    ];
    for (const [group, all] of expected) {
      expect(all.length).toBeGreaterThan(1);
      expect(all.filter((value) => !(`${group}.${value}` in en)), group).toEqual([]);
    }
  });

  it('write numbers and days as the language does', () => {
    const [english, french] = [pageWords('en'), pageWords('fr')];
    expect([english.percent(-12.34), english.percent(0.04), english.percent(null)]).toEqual(['−12.3\u202f%', '0.0\u202f%', '–']);
    expect([french.percent(20), french.change(-1.25)]).toEqual(['+20,0\u202f%', '−1,3']);
    expect([english.day('2026-03-29'), french.day('2026-03-29'), english.day(null), french.day('x')]).toEqual([
      '29 Mar 2026', '29 mars 2026', 'no date', 'sans date',
    ]);
    expect([french.size(12.34, 'diameter'), english.size(0.034, 'volume')]).toEqual(['12,3 mm', '0.03 ml']);
  });

  it('show what they do not know as it came', () => {
    expect(pageWords('fr').said('state', 'brand_new')).toBe('brand_new');
    expect(pageWords('fr').reason({ code: 'brand-new', text: 'As sent.' })).toBe('As sent.');
    expect(pageWords('en').reason({ code: 'merge', text: 'M1 and M2 have fused.' })).toBe('M1 and M2 have fused.');
    expect(pageWords('fr').count('patient.visits', 0)).toBe('0 visite');
  });
});
