/** The sign-in: a password, and with a second factor a one-time password after it. */

import { acme, reason, signedIn } from "./session.js"
import { form, h } from "./ui.js"

export function signInView() {
	const note = h("p", { class: "note", role: "alert" }, reason)
	const steps = h("div", {})

	const first = (why) => {
		note.textContent = why
		steps.replaceChildren(
			form({
				look: "card signin",
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
				errors: { 401: ["", "Login or password is wrong."] },
				action: async ({ username, password }) => {
					if (await acme.signIn(username.trim(), password)) await signedIn()
					else second()
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
				look: "card signin",
				fields: [codeField()],
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
		h("p", { class: "lead" }, "Keep track of what you own and what it is worth."),
		note,
		steps,
		h(
			"p",
			{ class: "hint" },
			...["No account? ", h("a", { href: "#try" }, "Try what works without one"), ". "],
			...["If you run this server: its terminal shows how to sign in."],
		),
	]
}

/** A field for a new password; the hint is the rule of acme.conf. */
export const passwordField = (label) => ({
	...{ name: "password", label, type: "password", autocomplete: "new-password" },
	hint: "10 characters or more that are hard to guess, with A to Z, a to z and 0 to 9 among them",
})

/** A field for a one-time password. */
export function codeField() {
	return {
		...{ name: "code", label: "Code", hint: "Six digits", maxlength: "7" },
		...{ inputmode: "numeric", autocomplete: "one-time-code" },
		read: (text) => text.replace(/\s/g, ""),
	}
}
