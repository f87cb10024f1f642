/** The frame: navigation, the authenticated user, and the state of the connection. */

import { accountView } from "./account.js"
import { acme, events, me, reason, restore, retryNow, signOut } from "./session.js"
import { signInView } from "./signin.js"
import { stuffView } from "./stuff.js"
import { tryView } from "./try.js"
import { attempt, explain, h, say } from "./ui.js"
import { usersView } from "./users.js"

/** The views by the hash of their URL: title, constructor, and who may see it. */
const VIEWS = {
	stuff: { title: "My stuff", make: stuffView, may: () => me },
	users: { title: "Users", make: usersView, may: () => me?.admin },
	try: { title: "Try it", make: tryView, may: () => true },
	account: { title: "Account", make: accountView, may: () => me },
	signin: { title: "Sign in", make: signInView, may: () => !me },
}

const main = document.querySelector("main")
let shown = { view: null, node: null, end: new AbortController() }
let parked = null // the view whose session has ended, shown again after its user signs in

/** Show the view that the URL names, or the sign-in before it. */
function show() {
	const name = location.hash.slice(1) || (me ? "stuff" : "signin")
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
	if (parked && me?.login === parked.login && parked.view === view) {
		shown = parked
		parked = null
	} else {
		const end = new AbortController()
		if (view !== VIEWS.signin && parked) parked = void parked.end.abort()
		const node = h("div", { class: "view" }, h("h1", { tabindex: "-1" }, view.title))
		shown = { view, node, end, login: me?.login }
		node.append(...view.make(end.signal))
	}
	if (!parked || parked !== old) old.end.abort()
	document.querySelectorAll("dialog").forEach((box) => box.close())
	document.title = `${view.title} – Acme`
	frame(name)
	main.replaceChildren(shown.node)
	if (shown.top) scrollTo(0, shown.top)
	else scrollTo(0, 0)
	const first = shown.node.querySelector("[data-first]") ?? shown.node.querySelector("h1")
	if (old.view) first.focus({ preventScroll: true })
	else shown.node.querySelector("[data-first]")?.focus()
}

function frame(name) {
	const links = Object.entries(VIEWS).filter(([, { may }]) => may())
	const nav = links.map(([hash, { title }]) =>
		h("a", { href: `#${hash}`, "aria-current": hash === name && "page" }, title),
	)
	document.querySelector("nav").replaceChildren(...nav)
	const leave = h("button", { class: "quiet" }, "Sign out")
	leave.onclick = () => attempt(leave, "Signing out…", async () => {
		await signOut()
		location.hash = ""
	})
	document.querySelector("#who").replaceChildren(...(me ? [h("span", {}, me.login), leave] : []))
}

const nowhere = () => [
	h("p", {}, "This address does not exist. ", h("a", { href: "#" }, "Go to the start"), "."),
]
const notYours = () => [h("p", {}, "Only administrators have access.")]

addEventListener("hashchange", () => {
	say("")
	show()
})

events.addEventListener("user", () => {
	say("") // remove messages to the previous user
	say("", true)
	const before = shown.login
	if (!me && before && reason && shown.view !== VIEWS.try) {
		parked = Object.assign(shown, { top: scrollY })
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
