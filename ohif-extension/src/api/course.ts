/** A patient over time, as `GET /studies/{uid}/course` and `GET /patients/{id}/course` give it. */
import type { components } from './schema';

type Schemas = components['schemas'];

export type Course = Schemas['Course'];
export type CourseVisit = Schemas['CourseVisit'];
export type CourseObservation = Schemas['CourseObservation'];
export type CourseLink = Schemas['CourseLink'];
export type Track = Schemas['CourseTrack'];
export type TrackReading = Schemas['CourseTrackReading'];
export type VisitReading = Schemas['CourseReading'];
export type VisitAssessment = Schemas['CourseAssessment'];
export type SignedAssessment = Schemas['CourseSignature'];
export type CodedReason = Schemas['CourseReason'];
export type LinkDecision = Schemas['CourseDecision'];
