/** The view of all users, for administrators. */

import { acme, changed, events, me } from "./session.js"
import { passwordField } from "./signin.js"
import { attempt, confirm, dialog, explain, form, h, pager, say, sorted } from "./ui.js"

const PAGE = 50

export function usersView(signal) {
	const list = h("ul", { class: "rows users", "aria-label": "Users" })
	const rows = sorted(list, (login) => makeRow(login))

	/** Insert or update the row of a user. */
	const put = (profile) => {
		const row = rows.put(profile.login)
		row.show(profile)
		return row
	}

	const makeRow = (login) => {
		const about = h("div", {})
		const actions = h("div", { class: "buttons" })
		const summary = h("summary", {}, "Change", h("span", { class: "unseen" }, ` ${login}`))
		const menu = h("details", {}, summary, actions)
		const row = h("li", {}, about, menu)

		/** Show a change at once, and undo it if it is refused. */
		const change = async (what, done) => {
			const old = row.profile
			row.show({ ...old, ...what })
			summary.focus()
			try {
				const profile = await acme.changeUser(login, what)
				row.show(profile)
				if (login === me?.login) changed(profile)
				say(done)
			} catch (error) {
				row.show(old)
				say(`${login} has not changed: ${explain(error)}`, true)
			}
		}

		row.show = (profile) => {
			row.profile = profile
			const { email, admin, active, otp } = profile
			const badges = { administrator: admin, disabled: !active, "second factor": otp, you: login === me?.login }
			about.replaceChildren(
				h("strong", {}, login),
				...Object.keys(badges).filter((name) => badges[name]).map((name) => h("span", { class: "badge" }, name)),
				h("div", { class: "hint" }, email),
			)
			row.classList.toggle("off", !active)
			const button = (text, action, look = "") => h("button", { class: look, onclick: action }, text)
			const turn = (text, what, done) => button(text, () => change(what, `${login} ${done}.`))
			const role = admin
				? turn("Demote", { admin: false }, "is an ordinary user")
				: turn("Promote", { admin: true }, "is an administrator")
			if (login === me?.login) return actions.replaceChildren(role)
			actions.replaceChildren(
				active
					? turn("Disable", { active: false }, "is disabled")
					: turn("Enable", { active: true }, "may sign in again"),
				role,
				button("New password", () => newPassword(login)),
				otp ? button("Reset the second factor", reset) : "",
				button("Delete", remove, "danger"),
			)
		}

		const reset = async ({ target }) => {
			const text = "For a lost device: from now on the password alone is enough to sign in."
			if (!(await confirm(`Reset the second factor of ${login}?`, text, "Reset"))) return
			await attempt(target, "Resetting…", async () => {
				await acme.resetOtp(login)
				row.show({ ...row.profile, otp: false })
				summary.focus()
				say(`The second factor of ${login} is off.`)
			})
		}

		const remove = async ({ target }) => {
			const text = "The account and all its stuff are deleted. This cannot be undone."
			if (!(await confirm(`Delete ${login}?`, text, "Delete"))) return
			await attempt(target, "Deleting…", async () => {
				await acme.deleteUser(login, true)
				const near = row.nextSibling ?? row.previousSibling
				row.remove()
				near?.querySelector("summary").focus()
				say(`${login} is deleted.`)
			})
		}
		return row
	}

	const add = form({
		look: "card add",
		fields: [
			{
				...{ name: "login", label: "Login", hint: "2 to 32 lower case letters and digits" },
				...{ autocomplete: "off", autocapitalize: "none", spellcheck: "false" },
			},
			{ name: "email", label: "E-mail address", type: "email", autocomplete: "off" },
			passwordField("Password"),
		],
		submit: "Add",
		doing: "Adding…",
		errors: { 409: ["login", "This login is taken: choose another one"] },
		action: async ({ login, email, password }) => {
			await acme.addUser(login, password, email)
			const row = put(await acme.getUser(login))
			add.reset()
			add.querySelector("input").focus()
			row.classList.add("new")
			row.scrollIntoView({ block: "nearest" })
			say(`${login} is added.`)
		},
	})

	const show = (profiles) => profiles.forEach(put)
	const more = pager((after) => acme.users({ limit: PAGE, after }), show, events, signal)
	return [add, list, more]
}

function newPassword(login) {
	const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel")
	const box = dialog(
		`New password for ${login}`,
		form({
			fields: [passwordField("New password")],
			submit: "Set it",
			doing: "Setting…",
			more: [cancel],
			errors: { 400: ["password"] },
			action: async ({ password }) => {
				await acme.setPassword(login, password)
				box.close()
				say(`${login} has a new password; their sessions have ended.`)
			},
		}),
	)
}
