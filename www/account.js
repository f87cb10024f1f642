/** The view of the own account: e-mail address, password, second factor, sessions. */

import { acme, changed, leave, me, signedIn, signOut } from "./session.js"
import { codeField, passwordField } from "./signin.js"
import { attempt, card, confirm, copyButton, explain, form, h, say, time } from "./ui.js"

const currentField = { name: "current", label: "Current password", type: "password", autocomplete: "current-password" }
// tells password managers which account this is
const loginField = (value) => ({ name: "username", label: "Login", value, autocomplete: "username", hidden: true })

export function accountView({ signal }) {
	const { login, admin } = me
	const role = admin ? "You are an administrator." : "You are an ordinary user."
	const sessions = sessionsPart(login)
	return [
		h("p", { class: "lead" }, "Signed in as ", h("strong", {}, login), `. ${role}`),
		emailPart(login),
		passwordPart(login, sessions.load),
		otpPart(login, sessions.load),
		keysPart(login),
		sessions.element,
		eventsPart(login, signal),
		deletePart(login),
	]
}

function emailPart(login) {
	const email = form({
		fields: [
			{
				...{ name: "email", label: "E-mail address", type: "email", value: me.email },
				autocomplete: "email",
			},
			{ ...currentField, label: "Your password", hidden: true, optional: true },
		],
		submit: "Save",
		doing: "Saving…",
		action: async (values) => {
			const current = values.current || undefined
			try {
				const profile = await acme.changeUser(login, { ...values, current })
				changed(profile)
				const isSaved = profile.email.toLowerCase() === values.email.trim().toLowerCase()
				if (isSaved) email.querySelector("input").value = profile.email
				say(isSaved ? "The address is saved." : `Open the link in the mail to ${values.email}.`)
			} catch (error) {
				// where mails are sent, it takes the password
				if (error.message.startsWith("current")) email.querySelectorAll(".current, .current *").forEach((e) => (e.hidden = false))
				throw error
			}
		},
	})
	return card("E-mail", email)
}

function passwordPart(login, loadSessions) {
	const element = form({
		fields: [
			loginField(login),
			currentField,
			passwordField("New password"),
		],
		submit: "Change the password",
		doing: "Changing…",
		errors: {
			400: ["password"],
			403: ["current", "This is not the current password"],
		},
		action: async ({ current, password }) => {
			await acme.setPassword(login, password, current)
			// all sessions have ended, this one too
			const done = await acme.signIn(login, password).catch(() => false)
			if (!done) return leave("The password is changed: sign in with it.")
			await signedIn()
			element.reset()
			say("The password is changed; your other sessions have ended.")
			loadSessions()
		},
	})
	return card("Password", element)
}

function otpPart(login, loadSessions) {
	const place = h("div", { class: "stack" })
	const part = card("Second factor", place)

	/** A form that takes a code to switch it on or off. */
	const codeForm = (on, submit, doing, ...more) =>
		form({
			fields: [codeField(!on)],
			...{ submit, doing, more },
			errors: { 403: ["code", "This code is wrong, or was used before"] },
			action: async ({ code }) => {
				const codes = await acme.switchOtp(login, code, on)
				changed({ ...me, otp: on, recovery: 10 })
				say(`The second factor is ${on ? "on; your other sessions have ended" : "off"}.`)
				state()
				if (codes) showCodes(codes.recovery)
				part.querySelector("h2 ~ div button, input").focus()
				loadSessions()
			},
		})

	const showCodes = (codes) => {
		const text = codes.join("\n")
		const href = `data:text/plain,${encodeURIComponent(text)}`
		place.replaceChildren(
			h("p", {}, "Keep these recovery codes: each replaces your device once. They are not shown again."),
			h("ul", { class: "key codes" }, ...codes.map((code) => h("li", {}, h("code", {}, code)))),
			h("div", { class: "buttons" }, copyButton(text), h("button", { onclick: () => print() }, "Print"),
				h("a", { href, download: "acme-recovery-codes.txt" }, "Download"), h("button", { onclick: state }, "Done")),
		)
	}

	const askCode = () => {
		const ask = form({
			...{ fields: [codeField()], submit: "New recovery codes", doing: "Making…", more: [cancel()] },
			errors: { 403: ["code", "This code is wrong, or was used before"] },
			action: async ({ code }) => showCodes((await acme.newRecovery(login, code)).recovery),
		})
		place.replaceChildren(ask)
		ask.querySelector("input").focus()
	}

	const state = () => {
		if (me.otp) {
			const renew = h("button", { type: "button", onclick: askCode }, "New recovery codes")
			place.replaceChildren(
				h("p", {}, `On: signing in takes a code from your device, or one of ${me.recovery} recovery codes.`),
				codeForm(false, "Switch it off", "Switching off…", renew),
			)
			return
		}
		const begin = h("button", { onclick: () => askPassword() }, "Set it up")
		place.replaceChildren(
			h("p", {}, "Off. When it is on, signing in takes your password and a code from your device."),
			h("div", { class: "buttons" }, begin),
		)
	}

	const cancel = () => h("button", { type: "button", onclick: state }, "Cancel")

	const askPassword = () => {
		const ask = form({
			fields: [
				loginField(login),
				currentField,
			],
			submit: "Continue",
			doing: "Setting up…",
			more: [cancel()],
			errors: { 403: ["current", "This is not the current password"] },
			action: async ({ current }) => showSecret(await acme.newOtp(login, current)),
		})
		place.replaceChildren(ask)
		ask.querySelector("[name=current]").focus()
	}

	const showSecret = ({ secret, qr }) => {
		place.replaceChildren(
			h("p", {}, "Scan this with an authenticator application, or type the key into it. Then enter ",
				"the code that it shows."),
			h("img", { class: "qr", src: qr, alt: "QR code of the key below", width: "180", height: "180" }),
			h("p", {}, "Key: ", h("code", { class: "key" }, secret.match(/.{1,4}/g).join(" "))),
			codeForm(true, "Switch it on", "Switching on…", cancel()),
		)
		place.querySelector("input").focus()
	}

	state()
	return part
}

function sessionsPart(login) {
	const all = h("button", { class: "danger" }, "Sign out everywhere")
	all.onclick = async () => {
		const sure = await confirm("Sign out everywhere?", "All your sessions end, including this one.", "Sign out")
		if (sure) await attempt(all, "Signing out…", () => signOut(true))
	}
	const row = ({ id, created, used, from }) => {
		const own = id === acme.session
		const end = h("button", { "aria-label": `End the session from ${from}` }, "End")
		const element = h(
			"li",
			{},
			h("div", { class: "main-part" }, h("strong", {}, from), own && h("span", { class: "badge" }, "this one"),
				h("div", { class: "hint" }, "since ", time(created), ", last used ", time(used))),
			own ? "" : end,
		)
		end.onclick = () =>
			attempt(end, "Ending…", async () => {
				await acme.endSession(login, id)
				element.remove()
				all.focus()
				say("The session has ended.")
			})
		return element
	}
	const { parts, load } = loaded(async () => (await acme.sessions(login)).items.reverse(), row, "")
	return { element: card("Sessions", ...parts, all), load }
}

/** A list that `load` loads again. */
function loaded(get, row, none) {
	const list = h("ul", { class: "rows" })
	const empty = h("p", { class: "hint", hidden: true }, none)
	const fault = h("p", { class: "fault", role: "alert" })
	const load = async () => {
		try {
			const items = await get()
			list.replaceChildren(...items.map(row))
			empty.hidden = items.length > 0
			fault.textContent = ""
		} catch (error) {
			fault.textContent = explain(error)
		}
	}
	load()
	return { parts: [list, empty, fault], load }
}

function keysPart(login) {
	const place = h("div", { class: "stack" })
	const keys = loaded(
		() => acme.keys(login),
		({ id, name, scope, created, expires, used }) => {
			const end = h("button", { "aria-label": `Delete the API key ${name}` }, "Delete")
			end.onclick = async () => {
				const text = "Programs that use this key are refused from now on."
				if (!(await confirm(`Delete the API key ${name}?`, text, "Delete"))) return
				await attempt(end, "Deleting…", async () => {
					await acme.deleteKey(login, id)
					say(`The API key ${name} is deleted.`)
					await keys.load()
					begin.focus()
				})
			}
			const rights = scope === "read" ? "may read" : "may read and write"
			const isOver = expires * 1000 < Date.now()
			return h(
				"li",
				{},
				h("div", { class: "main-part" }, h("strong", {}, name),
					h("span", { class: `badge ${isOver ? "warn" : "grey"}` }, isOver ? "expired" : rights),
					h("div", { class: "hint" }, "since ", time(created), ", until ", time(expires), ", ",
						...(used ? ["last used ", time(used, true)] : ["never used"]))),
				end,
			)
		},
		"No keys yet.",
	)
	const begin = h("button", {}, "New key")
	const rest = () => place.replaceChildren(h("div", { class: "buttons" }, begin))
	begin.onclick = () => {
		const ask = form({
			fields: [
				{ name: "name", label: "Name", hint: "What it is for", autocomplete: "off" },
				{ name: "scope", label: "It may", options: [["read", "read"], ["write", "read and write"]] },
				{ name: "days", label: "Valid for, in days", value: "90", inputmode: "numeric", autocomplete: "off", read: Number },
				currentField,
			],
			submit: "Make the key",
			doing: "Making…",
			more: [h("button", { type: "button", onclick: rest }, "Cancel")],
			errors: { 403: ["current", "This is not the current password"] },
			action: async ({ name, scope, days, current }) => {
				const { key } = await acme.addKey(login, name, scope, current, days)
				const done = h("button", { onclick: rest }, "Done")
				place.replaceChildren(
					h("p", { role: "status" }, "Copy the key now: it is not shown again."),
					h("code", { class: "key" }, key),
					h("div", { class: "buttons" }, copyButton(key), done),
				)
				place.querySelector("button").focus()
				keys.load()
			},
		})
		place.replaceChildren(ask)
		ask.querySelector("input").focus()
	}
	rest()
	return card("API keys", h("p", { class: "hint" }, "For scripts: a key opens your stuff, not your account."),
		...keys.parts, place)
}

function eventsPart(login, signal) {
	let after
	const more = h("button", {}, "Show more")
	const list = h("ul", { class: "rows" })
	const fault = h("p", { class: "fault", role: "alert" })
	const load = async () => {
		try {
			const { items, next } = await acme.events(login, { limit: 10, after })
			if (signal.aborted) return
			list.append(...items.map(({ time: at, event, who, from, times }) =>
				h("li", {}, h("div", { class: "main-part" }, h("span", {}, event[0].toUpperCase() + event.slice(1)),
					times > 1 && h("span", { class: "badge grey" }, `${times} times`),
					h("div", { class: "hint" }, time(at), from && `, from ${from}`, who && who !== login && `, by ${who}`)))))
			after = next
			more.hidden = !next
			fault.textContent = ""
		} catch (error) {
			fault.textContent = explain(error)
		}
	}
	more.onclick = () => attempt(more, "Loading…", load)
	load()
	return card("Activity", list, fault, more)
}

function deletePart(login) {
	const save = h("button", {}, "Download my data")
	save.onclick = () =>
		attempt(save, "Loading…", async () => {
			const parts = []
			let after
			do {
				const { data, next } = await acme.exportUser(login, { after })
				parts.push(data)
				after = next
			} while (after)
			const text = JSON.stringify(parts, null, 2)
			const href = URL.createObjectURL(new Blob([text], { type: "application/json" }))
			h("a", { href, download: `acme-${login}.json` }).click()
		})

	const button = h("button", { class: "danger" }, "Delete my account")
	button.onclick = async () => {
		const text = "Your account and all your stuff are deleted at once. This cannot be undone."
		if (!(await confirm("Delete your account?", text, "Delete", login))) return
		await attempt(button, "Deleting…", async () => {
			await acme.deleteUser(login, true)
			leave("Your account is deleted.")
		})
	}
	return card("Your data", h("div", { class: "buttons" }, save, button))
}
