import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Problem } from '../src/api/problem';
import en from '../src/i18n/en';
import fr, { problems, reasons } from '../src/i18n/fr';
import { detectLanguage, translator } from '../src/i18n';

const source = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const table = (text: string, entry: RegExp) => [...text.matchAll(entry)].map((match) => match[1] ?? '');

describe('the dictionaries', () => {
  it('have the same keys, and no empty words', () => {
    expect(Object.keys(fr).sort()).toEqual(Object.keys(en).sort());
    expect(Object.values({ ...en, ...fr }).filter((words) => words.trim() === '')).toEqual([]);
  });

  it('fill the same places in both languages', () => {
    const places = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();
    for (const key of Object.keys(en) as (keyof typeof en)[]) {
      expect(places(fr[key]), key).toEqual(places(en[key]));
    }
  });

  it('know every error code of the server in French', () => {
    const codes = table(source('errors.py'), /^ {4}"([a-z0-9-]+)": ErrorCode\(/gm);
    expect(codes.length).toBeGreaterThan(40);
    expect(codes.filter((code) => !problems[code])).toEqual([]);
  });

  it('know every reason of the choice of series in French', () => {
    const text = source('orthanc/series.py');
    const codes = table(text.slice(text.indexOf('REASONS:')), /^ {4}"([a-z0-9-]+)": \(/gm);
    expect(codes.length).toBeGreaterThan(30);
    expect(codes.filter((code) => !reasons[code])).toEqual([]);
  });

  it('name every step of the pipeline', () => {
    const text = source('segmentation/pipeline.py');
    const steps = table(text.slice(text.indexOf('Step = Literal['), text.indexOf(']', text.indexOf('Step = Literal['))), /"([a-z]+)"/g);
    expect(steps).toHaveLength(8);
    expect(steps.filter((step) => !(`step.${step}` in en))).toEqual([]);
  });
});

describe('a translator', () => {
  it('takes the server words in English and its own in French', () => {
    const problem = new Problem({ code: 'disk-full', title: 'The disk is full', detail: '', remedy: 'Free space.' });
    expect(translator('en').problem(problem)).toEqual({ title: 'The disk is full', remedy: 'Free space.' });
    expect(translator('fr').problem(problem).title).toBe('Le disque est plein');
  });

  it('falls back to the words of the server for a code it does not know', () => {
    const problem = new Problem({ code: 'brand-new', title: 'Something new', detail: '', remedy: 'Do this.' });
    expect(translator('fr').problem(problem)).toEqual({ title: 'Something new', remedy: 'Do this.' });
    expect(translator('fr').reason({ code: 'brand-new', effect: 1, text: 'as sent' })).toBe('as sent');
  });

  it('has words for an answer without any', () => {
    const problem = new Problem({ code: 'not-ready', title: 'HTTP 502', detail: '', remedy: '' });
    expect(translator('en').problem(problem).title).toBe('The service is not ready');
  });

  it('counts as the language does', () => {
    expect(translator('en').count('result.count', 0)).toBe('0 lesions');
    expect(translator('en').count('result.count', 1)).toBe('1 lesion');
    expect(translator('fr').count('result.count', 0)).toBe('0 lésion');
    expect(translator('fr').count('result.count', 2)).toBe('2 lésions');
  });
});

describe('the language', () => {
  const browser = { search: '', cookie: '', stored: null, languages: ['de-DE', 'fr'] };
  it('is found where the viewer finds it', () => {
    expect(detectLanguage(browser)).toBe('en');
    expect(detectLanguage({ ...browser, languages: ['fr-CA'] })).toBe('fr');
    expect(detectLanguage({ ...browser, stored: 'fr' })).toBe('fr');
    expect(detectLanguage({ ...browser, stored: 'fr', cookie: 'a=b; i18next=en-US' })).toBe('en');
    expect(detectLanguage({ ...browser, cookie: 'i18next=en', search: '?lng=fr' })).toBe('fr');
    expect(detectLanguage({ ...browser, languages: [] })).toBe('en');
  });
});
