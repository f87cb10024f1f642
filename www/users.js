/** The view of all users, for administrators. */

import { list } from "./list.js"
import { acme, changed, later, me } from "./session.js"
import { passwordField } from "./signin.js"
import { adder, attempt, confirm, dialog, explain, form, h, menu, say } from "./ui.js"

export function usersView(view) {
	const { search, count, parts, put, drop } = list({
		...{ name: "Users", one: "user", many: "users", look: "users", empty: h("p"), view },
		load: (range) => acme.users(range),
		key: ({ login }) => login,
		make: (login) => makeRow(login),
	})

	const makeRow = (login) => {
		const about = h("div", { class: "main-part" })
		const opener = h("button", { class: "quiet" }, "Change", h("span", { class: "unseen" }, ` ${login}`))
		const row = h("li", {}, about, opener, menu(opener, () => actions(row.profile)))

		/** Show a change at once, and undo it if it is refused. */
		const change = async (what, done) => {
			const old = row.profile
			row.show({ ...old, ...what })
			opener.focus()
			try {
				const profile = await acme.changeUser(login, what)
				row.show(profile)
				if (login === me?.login) changed(profile)
				say(`${login} ${done}.`)
			} catch (error) {
				row.show(old)
				say(`${login} has not changed: ${explain(error)}`, true)
			}
		}
		const ask = async (name, text, what, done) => {
			const isOwn = login === me.login
			if (await confirm(`${name} ${isOwn ? "yourself" : login}?`, text, name, isOwn && login)) change(what, done)
		}

		row.show = (profile) => {
			row.profile = profile
			const { email, admin, active, otp } = profile
			const badge = (shown, text, look = "") => shown && h("span", { class: `badge ${look}` }, text)
			about.replaceChildren(
				h("strong", {}, login),
				badge(admin, "administrator") || "",
				badge(!active, "disabled", "warn") || "",
				badge(otp, "second factor", "grey") || "",
				badge(login === me?.login, "you", "grey") || "",
				h("div", { class: "hint" }, email),
			)
			row.classList.toggle("off", !active)
		}

		const actions = ({ admin, active, otp }) => {
			const button = (text, onclick, look = "") => h("button", { class: look, onclick }, text)
			const role = admin
				? button("Demote", () => ask("Demote", "An ordinary user sees only their own stuff and account.",
						{ admin: false }, "is an ordinary user"))
				: button("Promote", () => ask("Promote", "An administrator may change and delete all accounts.",
						{ admin: true }, "is an administrator"))
			if (login === me?.login) return [role]
			return [
				active
					? button("Disable", () => ask("Disable", "All sessions of this user end, and they cannot sign in until you enable them again.",
							{ active: false }, "is disabled"))
					: button("Enable", () => change({ active: true }, "may sign in again")),
				role,
				button("New password", () => newPassword(login)),
				otp && button("Reset the second factor", reset),
				button("Delete", remove, "danger"),
			]
		}

		const reset = async () => {
			const text = "For a lost device: from now on the password alone is enough to sign in."
			if (!(await confirm(`Reset the second factor of ${login}?`, text, "Reset"))) return
			await attempt(opener, "Resetting…", async () => {
				await acme.resetOtp(login)
				row.show({ ...row.profile, otp: false })
				say(`The second factor of ${login} is off.`)
			})
		}

		const remove = async () => {
			const text = "The account and all its stuff will be deleted, ten seconds after you confirm. Until then you can undo it."
			if (!(await confirm(`Delete ${login}?`, text, "Delete"))) return
			row.classList.add("pending")
			const stop = later(
				async () => {
					try {
						await acme.deleteUser(login, true)
						drop(row)
						say(`${login} is deleted.`)
					} catch (error) {
						row.classList.remove("pending")
						say(`${login} is not deleted: ${explain(error)}`, true)
					}
				},
			)
			const undo = () => {
				stop()
				row.classList.remove("pending")
				opener.focus()
				say(`${login} is not deleted.`)
			}
			say(`${login} will be deleted in ten seconds.`, false, undo)
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
	const { button } = adder("Add a user", add)
	return [
		h("div", { class: "tools" }, view.title, button),
		add,
		h("div", { class: "tools" }, search, count),
		...parts,
	]
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
