/** The frame: navigation, the authenticated user, and the state of the connection. */

import { accountView } from "./account.js"
import { MAIL_VIEWS } from "./mail.js"
import { events, me, reason, remember, restore, retryNow, signOut } from "./session.js"
import { signInView } from "./signin.js"
import { stuffView } from "./stuff.js"
import { tryView } from "./try.js"
import { attempt, explain, h, hush, icon, menu, say } from "./ui.js"
import { usersView } from "./users.js"

/** The views by the hash of their URL: title, constructor, and who may see it. */
const VIEWS = {
	stuff: { title: "My stuff", make: stuffView, may: () => me },
	users: { title: "Users", make: usersView, may: () => me?.admin },
	try: { title: "Try it", make: tryView, may: () => true, look: "tiles" },
	account: { title: "Account", make: accountView, may: () => me },
	signin: { title: "Sign in", make: signInView, may: () => !me, look: "narrow" },
	...MAIL_VIEWS,
}
const SAVE_PAUSE = 200 // milliseconds after scrolling

const main = document.querySelector("main")
let shown = { view: null, node: null, end: new AbortController() }
let parked = null // the view whose session has ended, shown again after its user signs in

/** Show the view that the URL names, or the sign-in before it. */
function show() {
	const [, hash, token] = location.hash.match(/^#?([^=]*)=?(.*)/)
	const name = hash || (me ? "stuff" : "signin")
	if (me && name === "signin") return location.replace("#stuff")
	const asked = Object.hasOwn(VIEWS, name) && VIEWS[name]
	const view = !asked
		? { title: "Not found", make: nowhere }
		: asked.may()
			? asked
			: me
				? { title: asked.title, make: notYours }
				: VIEWS.signin
	const old = shown
	const place = history.state // of this entry, see `savePlace`
	document.querySelectorAll("dialog").forEach((box) => box.close())
	if (parked && me?.login === parked.login && parked.view === view) {
		shown = parked
		parked = null
	} else {
		const end = new AbortController()
		if (view !== VIEWS.signin && parked) parked = void parked.end.abort()
		const node = h("div", { class: `view ${view.look ?? ""}` })
		shown = { view, node, end, login: me?.login, keep: () => ({}) }
		const keep = (data) => (shown.keep = data)
		const title = h("h1", { tabindex: "-1" }, view.title)
		node.append(...view.make({ signal: end.signal, place, keep, title, token }))
		if (!node.contains(title)) node.prepend(title)
	}
	if (!parked || parked !== old) old.end.abort()
	document.title = `${view.title} – Acme`
	frame(name)
	main.replaceChildren(shown.node)
	shown.boxes?.forEach((box) => {
		box.removeAttribute("open")
		document.body.append(box)
		box.showModal()
	})
	scrollTo(0, shown.top ?? place?.top ?? 0)
	shown.top = shown.boxes = undefined
	const first = shown.node.querySelector("[data-first]") ?? shown.node.querySelector("h1")
	if (document.querySelector("dialog")) return
	if (old.view) first.focus({ preventScroll: true })
	else shown.node.querySelector("[data-first]")?.focus()
}

function frame(name) {
	const links = Object.entries(VIEWS).filter(([, { may, isLinked }]) => may() && !isLinked)
	const nav = links.map(([hash, { title }]) =>
		h("a", { href: `#${hash}`, "aria-current": hash === name && "page" }, title),
	)
	document.querySelector("nav").replaceChildren(...nav)
	const leave = h("button", { class: "quiet" }, "Sign out")
	leave.onclick = () => attempt(leave, "Signing out…", async () => {
		await signOut()
		location.hash = ""
	})
	const theme = h("button", { class: "quiet", "aria-label": "Theme" }, icon("theme"))
	const own = me ? [h("span", {}, me.login), leave] : []
	document.querySelector("#who").replaceChildren(theme, menu(theme, themes), ...own)
}

function themes() {
	const set = (theme) => () => {
		remember("theme", theme)
		dispatchEvent(new Event("theme")) // to theme.js
	}
	const now = document.documentElement.dataset.theme
	return ["", "light", "dark"].map((theme) =>
		h(
			"button",
			{ onclick: set(theme), "aria-pressed": String(theme === now) },
			theme ? theme[0].toUpperCase() + theme.slice(1) : "As the system",
		),
	)
}

const nowhere = () => [
	h("p", {}, "This address does not exist. ", h("a", { href: "#" }, "Go to the start"), "."),
]
const notYours = () => [h("p", {}, "Only administrators have access.")]

// the place in a view, kept in the history

history.scrollRestoration = "manual"
let saving

/** Keep the place in the entry of the history, before the user leaves it. */
function savePlace() {
	clearTimeout(saving)
	if (shown.view) history.replaceState({ ...shown.keep(), top: scrollY }, "")
}

addEventListener("scroll", () => {
	clearTimeout(saving)
	saving = setTimeout(savePlace, SAVE_PAUSE)
})
addEventListener("click", ({ target }) => target.closest?.("a") && savePlace(), true)
addEventListener("pagehide", savePlace)

addEventListener("hashchange", () => {
	clearTimeout(saving)
	hush()
	show()
})

events.addEventListener("user", () => {
	hush(true) // messages to the previous user
	const before = shown.login
	if (!me && before && reason && shown.view !== VIEWS.try) {
		parked = Object.assign(shown, { top: scrollY, boxes: document.querySelectorAll("dialog") })
		parked.boxes.forEach((box) => box.remove()) // with what is typed
	}
	show()
})

// the bar for a server that does not respond

const bar = document.querySelector("#bar")

events.addEventListener("lost", ({ detail: error }) => {
	const why = navigator.onLine === false ? "You are offline" : explain(error)
	const now = h("button", { onclick: retryNow }, "Try now")
	bar.replaceChildren(h("p", {}, `${why}. Trying again…`), now)
	if (!shown.view) main.replaceChildren(h("h1", {}, "Acme"), h("p", {}, "Waiting for the server…"))
})

events.addEventListener("back", () => {
	bar.replaceChildren()
	say("Connected again.")
})

// show errors that no view has caught
addEventListener("unhandledrejection", ({ reason: error }) => {
	if (error?.status !== 401) say(error?.message ? explain(error) : "Something went wrong.", true)
})

document.querySelector(".skip").onclick = (event) => {
	event.preventDefault() // the hash names the view
	main.focus()
}

restore()
