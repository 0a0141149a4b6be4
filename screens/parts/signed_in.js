// Who is signed in: asks the server, goes to the sign-in page and back, and the name and button for toolbars.
import { el, setHidden, setText } from "./dom.js";
import { t } from "./strings.js";

// The server's word that the sign-in of an open channel is over (cloud/api/live.py).
export const SIGNED_OUT = 4401;
// The screen of a role's work; the others have none yet.
const HOMES = { er_clinician: "/er", operator: "/fleet", auditor: "/review" };

/** The screen of a role, or null. */
export const homeOf = (role) => HOMES[role] ?? null;

/** Where to go after signing in: a path of this very server, whatever the address said; else one's own screen or null. */
export function safeNext(asked, role, origin = globalThis.location?.origin) {
  const home = homeOf(role);
  if (!asked?.startsWith("/")) return home;
  let url;
  try {
    url = new URL(asked, origin);
  } catch {
    return home;
  }
  // "/.//host" is a path here, which the parser shortens to "//host": gone to, that is another server.
  const leads = url.origin === origin && !/^\/(\/|(sign-in|api)(\/|$))/.test(url.pathname);
  return leads ? url.pathname + url.search : home;
}

let isLeaving = false;

/** Once: the end of a sign-in is heard from several sides, and a second going would break the first off. */
function goSignIn() {
  if (isLeaving) return;
  isLeaving = true;
  location.replace(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** Goes to the sign-in page when the server knows nobody here; else who is here, or null when it does not say. */
export async function requireSignIn() {
  try {
    const answer = await fetch("/api/v1/me", { signal: AbortSignal.timeout(10_000) });
    const me = answer.ok ? await answer.json() : null;
    if (me && !me.name) goSignIn();
    return me;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError)) throw error;
    return null;
  }
}

/** The signed-in name and the way out, for a toolbar. In a demo there is nobody to sign out. */
export class SignedIn {
  constructor() {
    this.name = el("span", { class: "signed-in-name", "data-testid": "signed-in" });
    this.out = el("button", { type: "button", "data-testid": "sign-out", onclick: signOut }, t("sign_out"));
    this.node = el("span", { class: "signed-in", hidden: true }, this.name, this.out);
  }

  update(hello) {
    const isPerson = Boolean(hello?.can_sign_out);
    setHidden(this.node, !isPerson);
    setText(this.name, isPerson ? hello.title : "");
  }
}

export async function signOut() {
  try {
    await fetch("/api/v1/sign-out", { method: "POST", signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    return; // still signed in: the screen stays, and says itself that the server is gone
  }
  goSignIn();
}
