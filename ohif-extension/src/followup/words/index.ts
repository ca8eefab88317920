/**
 * The words of the follow-up page. They are apart from those of the panel, so that the
 * panel does not carry them; problems and roles are told by the panel's own translator.
 */
import { translator, type Language, type Translator } from '../../i18n';
import { millilitres, millimetres } from '../../format';
import type { Metric } from '../shape/course';
import en, { type Words } from './en';
import fr from './fr';
import { reasons as frenchReasons } from './reasons';

export type Key = keyof Words;
type Values = Record<string, string | number>;
type Stem = { [K in Key]: K extends `${infer S}.one` ? S : never }[Key];

export interface PageWords {
  language: Language;
  panel: Translator;
  t(key: Key, values?: Values): string;
  /** Words for a value of the service; the value itself where it is a newer one. */
  said(group: string, value: string | null | undefined): string;
  count(stem: Stem, count: number): string;
  reason(reason: { code: string; text: string }): string;
  day(iso: string | null): string;
  size(value: number, metric: Metric): string;
  percent(value: number | null): string;
  change(value_mm: number): string;
  number(value: number, digits: number): string;
}

const DICTIONARIES: Record<Language, Words> = { en, fr };

export function pageWords(language: Language): PageWords {
  const words = DICTIONARIES[language];
  const rules = new Intl.PluralRules(language);
  const days = new Intl.DateTimeFormat(language === 'en' ? 'en-GB' : language, { dateStyle: 'medium', timeZone: 'UTC' });
  const t = (key: Key, values: Values = {}) =>
    words[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
  const signed = (value: number, digits: number) => {
    const size = new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    const text = size.format(Math.abs(value));
    const nought = Number(Math.abs(value).toFixed(digits)) === 0;
    return nought ? text : `${value < 0 ? '−' : '+'}${text}`;
  };
  return {
    language,
    panel: translator(language),
    t,
    said: (group, value) => (value ? (words[`${group}.${value}` as Key] ?? value) : ''),
    count: (stem, count) => t(`${stem}.${rules.select(count) === 'one' ? 'one' : 'other'}` as Key, { count }),
    reason: ({ code, text }) => (language === 'fr' ? (frenchReasons[code] ?? text) : text),
    day: (iso) => {
      const time = iso ? Date.parse(`${iso.slice(0, 10)}T00:00:00Z`) : NaN;
      return Number.isNaN(time) ? t('table.undated') : days.format(time);
    },
    size: (value, metric) =>
      metric === 'diameter' ? `${millimetres(value, language)} mm` : `${millilitres(value, language)} ml`,
    percent: (value) => (value === null ? '–' : `${signed(value, 1)}\u202f%`),
    change: (value_mm) => signed(value_mm, 1),
    number: (value, digits) =>
      new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits })
        .format(value)
        .replace('-', '−'),
  };
}
