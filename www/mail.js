/** Accounts by mail: to sign up, to reset a password, and what the links in mails open. */

import { acme, signedIn } from "./session.js"
import { passwordField } from "./signin.js"
import { form, h, say } from "./ui.js"

const login = {
	...{ name: "login", label: "Login", "data-first": true, autocomplete: "username" },
	...{ autocapitalize: "none", spellcheck: "false" },
}
const email = { name: "email", label: "E-mail address", type: "email", autocomplete: "email", "data-first": true }
const open = (hash) => (location.hash = hash)

/** A view with one form, whose `action` returns a message. */
const view = (lead, fields, submit, action, errors = { 403: ["", ""] }) => ({ title, token }) => {
	const note = h("p", { class: "note", role: "status" })
	const element = form({
		...{ look: "card", fields, submit, doing: "Please wait…", errors },
		action: async (values) => {
			const text = await action(values, token)
			if (!text) return
			note.textContent = text
			element.remove()
		},
	})
	const back = h("p", { class: "hint" }, h("a", { href: "#" }, "Back to the start"))
	return [title, h("p", { class: "lead" }, lead), note, element, back]
}

/** The views, by the hash of their URL. */
export const MAIL_VIEWS = {
	signup: {
		title: "Sign up",
		make: view("You get a mail with a link.", [email], "Send the mail", async (values) => {
			await acme.askRegistration(values.email)
			return `A mail is on its way to ${values.email}: open its link.`
		}),
	},
	forgot: {
		title: "Forgotten password",
		make: view("You get a mail with a link, if your address is confirmed.", [login], "Send the mail", async (values) => {
			await acme.askReset(values.login.trim())
			return "If there is such an account, a mail is on its way: open its link."
		}),
	},
	registration: {
		title: "Sign up",
		make: view(
			"Choose a login and a password.",
			[{ ...login, hint: "2 to 32 lower case letters and digits" }, passwordField("Password")],
			"Sign up",
			async (values, token) => {
				await acme.register(token, values.login, values.password)
				await acme.signIn(values.login, values.password)
				open("stuff")
				await signedIn()
			},
			{ 409: ["login", "This login is taken: choose another one"] },
		),
	},
	reset: {
		title: "New password",
		make: view("All your sessions and API keys will end.", [passwordField("New password")], "Set it", async (values, token) => {
			await acme.resetPassword(token, values.password)
			open("signin")
			setTimeout(() => say("The password is changed: sign in with it."))
		}),
	},
	confirm: {
		title: "Confirm your address",
		make: view("It will be the address of your account.", [], "Confirm", async (_, token) => {
			await acme.confirmAddress(token)
			return "Your address is confirmed."
		}),
	},
}
for (const shown of Object.values(MAIL_VIEWS)) Object.assign(shown, { may: () => true, look: "narrow", isLinked: true })
