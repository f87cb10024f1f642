/** The sign-in: a password, and with a second factor a one-time password after it. */

import { acme, reason, signedIn } from "./session.js"
import { form, h } from "./ui.js"

const wrong = (login) =>
	`Login or password is wrong.${/[A-Z]/.test(login) ? " Logins are in lower case." : ""}`

export function signInView({ title }) {
	const note = h("p", { class: "note", role: "alert" }, reason)
	const steps = h("div", {})

	const first = (why) => {
		note.textContent = why
		steps.replaceChildren(
			form({
				look: "card",
				fields: [
					{
						...{ name: "username", label: "Login", "data-first": true },
						...{ autocomplete: "username", autocapitalize: "none", spellcheck: "false" },
					},
					{
						...{ name: "password", label: "Password", type: "password" },
						autocomplete: "current-password",
					},
				],
				submit: "Sign in",
				doing: "Signing in…",
				action: async ({ username, password }) => {
					try {
						if (await acme.signIn(username.trim(), password)) await signedIn()
						else second()
					} catch (error) {
						if (error.status === 401) error.message = wrong(username)
						throw error
					}
				},
			}),
		)
	}

	const second = () => {
		const back = h("button", { type: "button", class: "quiet" }, "Start over")
		back.onclick = () => {
			first("")
			steps.querySelector("input").focus()
		}
		note.textContent = "Enter the code that your authenticator application shows now."
		steps.replaceChildren(
			form({
				look: "card",
				fields: [codeField(true)],
				submit: "Continue",
				doing: "Checking…",
				more: [back],
				errors: { 401: ["code", "This code is wrong, or was used before."] },
				action: async ({ code }) => {
					try {
						await acme.secondStep(code)
					} catch (error) {
						// the first step is good for five minutes
						if (error.message.startsWith("invalid token")) return first("That took too long: sign in again.")
						throw error
					}
					await signedIn()
				},
			}),
		)
		steps.querySelector("input").focus()
	}

	first(reason)
	return [
		title,
		h("p", { class: "lead" }, "Keep track of what you own and what it is worth."),
		note,
		steps,
		h(
			"p",
			{ class: "hint" },
			...[h("a", { href: "#forgot" }, "Forgotten password?"), " "],
			...["No account? ", h("a", { href: "#signup" }, "Sign up"), ", or "],
			...[h("a", { href: "#try" }, "try what works without one"), ". "],
			...["If you run this server: its terminal shows how to sign in."],
		),
	]
}

const GUESSED = /(.)\1\1|123|234|345|456|567|678|789|abc|qwe|asd|pass|acme|admin|love/i

/** What a new password lacks, as a hint while the user types: the server decides. */
function lacks(text) {
	const missing = [
		text.length < 10 && `${10 - text.length} more characters`,
		!/[A-Z]/.test(text) && "A to Z",
		!/[a-z]/.test(text) && "a to z",
		!/[0-9]/.test(text) && "a digit",
	].filter(Boolean)
	if (missing.length) return `Still missing: ${missing.join(", ")}`
	return GUESSED.test(text) ? "Easy to guess: avoid common words and sequences" : "Looks good"
}

/** A field for a new password; the hint is the rule of acme.conf. */
export const passwordField = (label) => ({
	...{ name: "password", label, type: "password", autocomplete: "new-password" },
	hint: "10 characters or more that are hard to guess, with A to Z, a to z and 0 to 9 among them",
	typed: lacks,
})

/** A field for a one-time password, or a recovery code. */
export function codeField(orRecovery) {
	const hint = orRecovery ? "Six digits, or a recovery code" : "Six digits"
	return {
		...{ name: "code", label: "Code", hint, maxlength: "30", spellcheck: "false" },
		...{ inputmode: orRecovery ? "text" : "numeric", autocomplete: "one-time-code" },
		read: (text) => text.replace(/\s/g, ""),
	}
}
