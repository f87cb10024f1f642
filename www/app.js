/** The frame: which page is shown, who is signed in, and whether the server is there. */

import { accountPage } from "./account.js"
import { acme, events, me, reason, restore, retryNow, signOut } from "./session.js"
import { signInPage } from "./signin.js"
import { stuffPage } from "./stuff.js"
import { tryPage } from "./try.js"
import { attempt, explain, h, say } from "./ui.js"
import { usersPage } from "./users.js"

/** A page by its hash: its title, what makes it, and who may see it. */
const PAGES = {
	stuff: { title: "My stuff", make: stuffPage, may: () => me },
	users: { title: "Users", make: usersPage, may: () => me?.admin },
	try: { title: "Try it", make: tryPage, may: () => true },
	account: { title: "Account", make: accountPage, may: () => me },
	signin: { title: "Sign in", make: signInPage, may: () => !me },
}

const main = document.querySelector("main")
let shown = { page: null, node: null, end: new AbortController() }
let parked = null // a page whose session has ended, for when its user comes back

/** Show the page that the address names, or what has to come before it. */
function show() {
	const name = location.hash.slice(1) || (me ? "stuff" : "signin")
	if (me && name === "signin") return location.replace("#stuff")
	const asked = Object.hasOwn(PAGES, name) && PAGES[name]
	const page = !asked
		? { title: "No such page", make: nowhere }
		: asked.may()
			? asked
			: me
				? { title: asked.title, make: notYours }
				: PAGES.signin
	const old = shown
	if (parked && me?.login === parked.login && parked.page === page) {
		shown = parked
		parked = null
	} else {
		const end = new AbortController()
		if (page !== PAGES.signin && parked) parked = void parked.end.abort()
		const node = h("div", { class: "page" }, h("h1", { tabindex: "-1" }, page.title))
		shown = { page, node, end, login: me?.login }
		node.append(...page.make(end.signal))
	}
	if (!parked || parked !== old) old.end.abort()
	document.querySelectorAll("dialog").forEach((box) => box.close())
	document.title = `${page.title} – Acme`
	frame(name)
	main.replaceChildren(shown.node)
	if (shown.top) scrollTo(0, shown.top)
	else scrollTo(0, 0)
	const first = shown.node.querySelector("[data-first]") ?? shown.node.querySelector("h1")
	if (old.page) first.focus({ preventScroll: true })
	else shown.node.querySelector("[data-first]")?.focus()
}

function frame(name) {
	const links = Object.entries(PAGES).filter(([, { may }]) => may())
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
	h("p", {}, "There is nothing at this address. ", h("a", { href: "#" }, "Go to the start"), "."),
]
const notYours = () => [h("p", {}, "This page is for administrators.")]

addEventListener("hashchange", () => {
	say("")
	show()
})

events.addEventListener("user", () => {
	say("") // whatever was said to another
	say("", true)
	const before = shown.login
	if (!me && before && reason && shown.page !== PAGES.try) {
		parked = Object.assign(shown, { top: scrollY })
	}
	show()
})

// the bar that says that the server does not answer

const bar = document.querySelector("#bar")

events.addEventListener("lost", ({ detail: error }) => {
	const why = navigator.onLine === false ? "You are offline" : explain(error)
	const now = h("button", { onclick: retryNow }, "Try now")
	bar.replaceChildren(h("p", {}, `${why}. Trying again…`), now)
	if (!shown.page) main.replaceChildren(h("h1", {}, "Acme"), h("p", {}, "Waiting for the server…"))
})

events.addEventListener("back", () => {
	bar.replaceChildren()
	say("Connected again.")
})

// an error that nobody has caught is told, lest it look as if nothing had happened
addEventListener("unhandledrejection", ({ reason: error }) => {
	if (error?.status !== 401) say(error?.message ? explain(error) : "Something went wrong.", true)
})

document.querySelector(".skip").onclick = (event) => {
	event.preventDefault() // the hash is the page's
	main.focus()
}

restore()
