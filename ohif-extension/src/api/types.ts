/**
 * The shapes of /api/v1, under the names the viewer uses.
 *
 * They come from `schema.d.ts`, which `npm run types` makes from `openapi.json`.
 */
import type { components } from './schema';

type Schemas = components['schemas'];

export type User = Schemas['User'];
export type Session = Schemas['Session'];
export type Reason = Schemas['Reason'];
export type SeriesCandidate = Schemas['Candidate'];
export type StudySeries = Schemas['SeriesChoice'];
export type Job = Schemas['Job'];
export type Lesion = Schemas['Lesion'];
export type Result = Schemas['Result'];
export type Model = Schemas['Model'];
