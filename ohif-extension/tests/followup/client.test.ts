import { describe, expect, it, vi } from 'vitest';
import { FollowupClient } from '../../src/followup/client';

function client(...answers: Response[]) {
  const sent: { url: string; init: RequestInit }[] = [];
  const fetch = vi.fn(async (url: string, init: RequestInit) => {
    sent.push({ url, init });
    return answers.shift() ?? new Response('{}');
  }) as unknown as typeof globalThis.fetch;
  return { api: new FollowupClient({ base: '/api/v1', authorization: () => ({}), fetch }), sent };
}

const { signal } = new AbortController();

describe('the client of the page', () => {
  it('asks for a page of patients, whatever is searched', async () => {
    const { api, sent } = client();
    await api.patients('', null, signal);
    await api.patients('a&limit=9', 'next/page', signal);
    expect(sent.map(({ url }) => url)).toEqual([
      '/api/v1/patients?limit=50',
      '/api/v1/patients?limit=50&search=a%26limit%3D9&cursor=next%2Fpage',
    ]);
  });

  it('asks by other criteria only where they are chosen', async () => {
    const { api, sent } = client();
    await api.course('../x', null, signal);
    await api.courseOfStudy('2.25.1', 'recist-1.1', signal);
    expect(sent.map(({ url }) => url)).toEqual(['/api/v1/patients/..%2Fx/course', '/api/v1/studies/2.25.1/course?rule_set=recist-1.1']);
  });

  it('names an exported file as the service does, and never by the patient', async () => {
    const named = new Response('%PDF', { headers: { 'Content-Disposition': 'attachment; filename="metia-ab12.pdf"' } });
    const { api, sent } = client(named, new Response('{}'));
    const options = { rules: 'rano-bm', language: 'fr', identifiers: false };
    expect((await api.export('ab', 'pdf', options)).name).toBe('metia-ab12.pdf');
    expect((await api.export('ab', 'fhir', options)).name).toBe('follow-up.json');
    expect(sent.map(({ url }) => url)).toEqual([
      '/api/v1/patients/ab/export/pdf?rule_set=rano-bm&identifiers=false&language=fr',
      '/api/v1/patients/ab/export/fhir?rule_set=rano-bm&identifiers=false',
    ]);
  });
});
