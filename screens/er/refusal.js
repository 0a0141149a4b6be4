// What stands in place of patients for somebody whose role may see none: why, and where to go.
import { el } from "../parts/dom.js";
import { homeOf, signOut } from "../parts/signed_in.js";
import { both, t } from "../parts/strings.js";

export function refusal({ title, role, can_sign_out: canSignOut }) {
  const home = homeOf(role);
  return el(
    "main",
    { class: "refusal", role: "alert", "data-testid": "refusal" },
    el("h2", {}, both("refused_title")),
    el("p", {}, t("refused_who", { name: title, role: t(`role_${role}`) })),
    el("p", {}, t("refused_hint")),
    home ? el("a", { href: home, "data-testid": "own-screen" }, t("own_screen")) : null,
    canSignOut ? el("button", { type: "button", "data-testid": "other-account", onclick: signOut }, t("other_account")) : null,
  );
}
