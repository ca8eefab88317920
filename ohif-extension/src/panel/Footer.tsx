/** Who is logged in, and the ways out: to the follow-up of the patient, and for good. */
import type { PartProps } from './context';

export function Footer({ state, controller, words, terms }: PartProps) {
  const { user } = state;
  if (!user || state.session !== 'open') return <footer className="metia-footer" />;
  return (
    <footer className="metia-footer" data-cy="metia-footer">
      <span className="metia-user" title={user.name}>
        {user.display_name || user.name}
        <span className="metia-badge">{words.t(`role.${user.role}`)}</span>
      </span>
      <button type="button" className="metia-link" data-cy="metia-followup" onClick={() => controller.followUp()}>
        {terms.t('page.title')}
      </button>
      <button type="button" className="metia-link" data-cy="metia-logout" onClick={() => void controller.logOut()}>
        {words.t('button.logout')}
      </button>
    </footer>
  );
}
