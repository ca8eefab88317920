import { readFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';
import { expect, it } from 'vitest';

const file = (path: string) => new URL(`../${path}`, import.meta.url);

it('the types are those of openapi.json (else: npm run types)', async () => {
  const made = astToString(await openapiTS(file('openapi.json')));
  const kept = readFileSync(file('src/api/schema.d.ts'), 'utf8');
  const code = (text: string) => text.slice(text.indexOf('export interface paths')).trim();
  expect(code(kept)).toBe(code(made));
});
