/**
 * The words of the panel in the language of the viewer.
 *
 * The language is looked up where OHIF looks it up (?lng=, cookie, its stored choice,
 * the browser); whatever is not French gets English.
 */
import type { Problem } from '../api/problem';
import type { Reason } from '../api/types';
import en, { problems as enProblems, type ProblemWords, type Words } from './en';
import fr, { problems as frProblems, reasons as frReasons } from './fr';

export type Language = 'en' | 'fr';
export type Key = keyof Words;
type Values = Record<string, string | number>;

export interface Translator {
  language: Language;
  t(key: Key, values?: Values): string;
  /** Choose between `key.one` and `key.other`. */
  count(key: PluralKey, count: number): string;
  /** Words for a value of the server; those of `otherwise` for one it did not send before. */
  say(group: string, value: string, otherwise: Key): string;
  /** Values of a group with their words, to choose from. */
  options(group: string, values: readonly string[]): { value: string; label: string }[];
  problem(problem: Pick<Problem, 'code' | 'title' | 'remedy'>): { title: string; remedy: string };
  reason(reason: Reason): string;
}

export type PluralKey = {
  [K in Key]: K extends `${infer Stem}.one` ? Stem : never;
}[Key];

const WORDS: Record<Language, Words> = { en, fr };
const PROBLEMS: Record<Language, ProblemWords> = { en: enProblems, fr: frProblems };

function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export function translator(language: Language): Translator {
  const words = WORDS[language];
  const rules = new Intl.PluralRules(language);
  const t = (key: Key, values: Values = {}) => fill(words[key], values);
  return {
    language,
    t,
    count(key, count) {
      const form = rules.select(count) === 'one' ? 'one' : 'other';
      return t(`${key}.${form}` as Key, { count });
    },
    say: (group, value, otherwise) => words[`${group}.${value}` as Key] ?? t(otherwise),
    options: (group, values) => values.map((value) => ({ value, label: words[`${group}.${value}` as Key] ?? value })),
    problem({ code, title, remedy }) {
      const own = PROBLEMS[language][code];
      // English: the server's words are the newest; here stand only those it did not send.
      const fromServer = title !== '' && title !== code && !title.startsWith('HTTP ');
      if (language === 'en' && fromServer) return { title, remedy: remedy || (own?.remedy ?? '') };
      return own ?? { title: fromServer ? title : t('problem.title'), remedy };
    },
    reason(reason) {
      return (language === 'fr' ? frReasons[reason.code] : undefined) ?? reason.text;
    },
  };
}

/** The first of the places OHIF asks that names a language. */
export function detectLanguage(browser: {
  search: string;
  cookie: string;
  stored: string | null;
  languages: readonly string[];
}): Language {
  const asked = [
    new URLSearchParams(browser.search).get('lng'),
    /(?:^|;\s*)i18next=([^;]+)/.exec(browser.cookie)?.[1],
    browser.stored,
    ...browser.languages,
  ].find(Boolean);
  return asked?.toLowerCase().startsWith('fr') ? 'fr' : 'en';
}

export function currentLanguage(): Language {
  let stored: string | null = null;
  try {
    stored = window.localStorage.getItem('i18nextLng');
  } catch {
    // storage is switched off: the browser's language counts
  }
  return detectLanguage({
    search: window.location.search,
    cookie: document.cookie,
    stored,
    languages: navigator.languages ?? [],
  });
}
