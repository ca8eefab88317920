/**
 * What the page asks the service, as React state: the session, the list, one course.
 *
 * A question that nobody waits for any more is aborted, and its late answer dropped.
 */
import { useCallback, useEffect, useRef, useState } from 'react';
import { asProblem, type Problem } from '../../api/problem';
import type { User } from '../../api/types';
import type { FollowupClient } from '../client';
import type { Place } from '../places';
import type { Course, ListedPatient } from '../shape/course';

const DEBOUNCE_MS = 250;

export interface Loaded<T> {
  value: T | null;
  problem: Problem | null;
  loading: boolean;
}

export function useUser(client: FollowupClient): { user: User | null; problem: Problem | null } {
  const [state, setState] = useState<{ user: User | null; problem: Problem | null }>({ user: null, problem: null });
  useEffect(() => {
    let here = true;
    client.session().then(
      (session) => here && setState({ user: session.user, problem: null }),
      (error: unknown) => here && setState({ user: null, problem: asProblem(error) }),
    );
    return () => {
      here = false;
    };
  }, [client]);
  return state;
}

export function useDebounced(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), DEBOUNCE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

export interface PatientList extends Loaded<ListedPatient[]> {
  more: (() => void) | null;
}

export function usePatients(client: FollowupClient, search: string): PatientList {
  const [state, setState] = useState<Loaded<ListedPatient[]> & { cursor: string | null }>({
    value: null,
    problem: null,
    loading: true,
    cursor: null,
  });
  const request = useRef<AbortController | null>(null);
  const load = useCallback(
    async (cursor: string | null) => {
      request.current?.abort();
      const mine = new AbortController();
      request.current = mine;
      setState((old) => ({ ...old, loading: true, problem: null }));
      try {
        const page = await client.patients(search, cursor, mine.signal);
        if (mine.signal.aborted) return;
        setState((old) => ({
          value: cursor ? [...(old.value ?? []), ...page.patients] : page.patients,
          cursor: page.next_cursor,
          problem: null,
          loading: false,
        }));
      } catch (error) {
        if (!mine.signal.aborted) setState((old) => ({ ...old, problem: asProblem(error), loading: false }));
      }
    },
    [client, search],
  );
  useEffect(() => {
    void load(null);
    return () => request.current?.abort();
  }, [load]);
  const { cursor, ...loaded } = state;
  return { ...loaded, more: cursor && !state.loading ? () => void load(cursor) : null };
}

export interface LoadedCourse extends Loaded<Course> {
  reload: () => Promise<void>;
  /** Take an answer that came with a change, instead of asking again. */
  take: (course: Course) => void;
}

export function useCourse(client: FollowupClient, { patient, study, rules }: Place): LoadedCourse {
  const [state, setState] = useState<Loaded<Course> & { key: string }>({ value: null, problem: null, loading: true, key: '' });
  const key = JSON.stringify([patient, study, rules]);
  const request = useRef<AbortController | null>(null);
  const reload = useCallback(async () => {
    request.current?.abort();
    if (!patient && !study) return;
    const mine = new AbortController();
    request.current = mine;
    setState((old) => ({ value: old.key === key ? old.value : null, problem: null, loading: true, key }));
    try {
      const value = patient
        ? await client.course(patient, rules, mine.signal)
        : await client.courseOfStudy(study ?? '', rules, mine.signal);
      if (!mine.signal.aborted) setState({ value, problem: null, loading: false, key });
    } catch (error) {
      if (!mine.signal.aborted) setState((old) => ({ ...old, problem: asProblem(error), loading: false }));
    }
  }, [client, patient, study, rules, key]);
  useEffect(() => {
    void reload();
    return () => request.current?.abort();
  }, [reload]);
  const take = useCallback((value: Course) => setState({ value, problem: null, loading: false, key }), [key]);
  const fresh = state.key === key;
  return { value: fresh ? state.value : null, problem: fresh ? state.problem : null, loading: !fresh || state.loading, reload, take };
}
