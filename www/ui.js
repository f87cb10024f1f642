/** The parts that views are built of. Text of users is inserted as text, never as HTML. */

/** An element: `h("button", { class: "quiet", onclick: act }, "Save")`; attributes that are false are left out. */
export function h(tag, attributes = {}, ...children) {
	const element = document.createElement(tag)
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
		else if (value !== false && value !== undefined)
			element.setAttribute(name, value === true ? "" : value)
	}
	element.append(...children.filter((child) => child || child === ""))
	return element
}

const ICONS = {
	bin: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
	pen: "M4 20l1-5L16 4l4 4L9 19zM13 7l4 4",
	theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
}
const drawn = {}

export function icon(name) {
	const make = (tag, attributes) => {
		const element = document.createElementNS("http://www.w3.org/2000/svg", tag)
		for (const key in attributes) element.setAttribute(key, attributes[key])
		return element
	}
	if (!drawn[name]) {
		drawn[name] = make("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" })
		drawn[name].append(make("path", { d: ICONS[name] }))
	}
	return drawn[name].cloneNode(true)
}

let ids = 0
const newId = () => `id${++ids}`

/** A part of a view, with a heading. */
export function card(title, ...children) {
	const id = newId()
	return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...children)
}

const UNDO = 10_000 // milliseconds

/** A message; an error stays until it is dismissed, one with `undo` (also Ctrl+Z) beside later ones. */
export function say(text, bad = false, undo) {
	hush()
	if (!text) return
	const message = h("p", { class: bad ? "bad" : "good" }, h("span", {}, text))
	const button = (name, act) => {
		const press = () => {
			message.remove()
			act?.()
		}
		message.append(h("button", { class: "quiet", onclick: press }, name))
	}
	if (bad) button("Dismiss")
	if (undo) {
		button("Undo", undo)
		message.lastChild.setAttribute("aria-keyshortcuts", "Control+Z")
		message.classList.add("undo")
	}
	const leave = () => {
		if (message.matches(":hover, :focus-within")) setTimeout(leave, 2000)
		else message.remove()
	}
	if (!bad) setTimeout(leave, undo ? UNDO : 6000)
	document.querySelector(`#messages [role=${bad ? "alert" : "status"}]`).append(message)
}

/** Remove the messages, but `all` those with a button to undo something. */
export function hush(all = false) {
	document.querySelectorAll(`#messages p${all ? "" : ":not(.undo)"}`).forEach((p) => p.remove())
}

addEventListener("keydown", (event) => {
	const button = [...document.querySelectorAll("#messages .undo button")].at(-1)
	const isUndo = (event.ctrlKey || event.metaKey) && event.key === "z" && !event.shiftKey
	if (!button || !isUndo || event.target.value) return // text has its own
	event.preventDefault()
	button.click()
})

/** The message of an error for people. */
export function explain(error) {
	const text = error.message.replace(/^error on parameter "\w+": /, "")
	return text[0].toUpperCase() + text.slice(1)
}

/** Run `action` with its button disabled; after a `Retry-After` the button counts the seconds. */
export async function during(button, doing, action) {
	const said = button.textContent
	const focused = document.activeElement === button
	const rest = () => {
		button.disabled = false
		button.textContent = said
		// a disabled button loses the focus
		if (focused && document.activeElement === document.body) button.focus()
	}
	button.style.minWidth = `${button.offsetWidth}px`
	button.disabled = true
	button.textContent = doing
	let wait
	try {
		return await action()
	} catch (error) {
		wait = error.retryAfter
		throw error
	} finally {
		if (wait) countdown(button, wait, rest)
		else rest()
	}
}

function countdown(button, seconds, then) {
	const end = Date.now() + seconds * 1000
	const tick = () => {
		const left = Math.ceil((end - Date.now()) / 1000)
		if (left <= 0) {
			clearInterval(timer)
			then()
		} else button.textContent = `Wait ${left} s`
	}
	const timer = setInterval(tick, 500)
	tick()
}

/** As `during`, with a message for an error. */
export async function attempt(button, doing, action) {
	try {
		await during(button, doing, action)
	} catch (error) {
		if (error.status !== 401) say(explain(error), true) // the sign-in view shows it
	}
}

/**
 * A form that shows each error at the field that it is about.
 *
 * A field has a `name` (the parameter's), a `label`, optionally a `hint`, `read` (which converts the
 * text to a value, or throws an Error), `typed` (a hint about what is typed so far), `options` (then
 * it is a select), and any attributes of an input. `action` gets the values.
 * `errors` maps a status to a field and optionally a text; `more` is placed beside the button.
 */
export function form({ fields, submit, doing, action, errors = {}, more = [], look = "" }) {
	const inputs = {}
	const faults = {}
	const rows = fields.map(({ name, label, hint, read, typed, options, optional, ...attributes }) => {
		const id = newId()
		const described = hint ? `${id}h ${id}e` : `${id}e`
		const choices = options?.map(([value, text]) => h("option", { value }, text)) ?? []
		const tag = options ? "select" : "input"
		const input = h(tag, { id, name, "aria-describedby": described, ...attributes }, ...choices)
		inputs[name] = Object.assign(input, { read: read ?? String, label, optional })
		faults[name] = h("p", { class: "fault", id: `${id}e` })
		const live = typed && h("p", { class: "hint", role: "status" })
		if (live) input.oninput = () => (live.textContent = input.value && typed(input.value))
		return h(
			"div",
			{ class: `field ${name}`, hidden: attributes.hidden },
			h("label", { for: id }, label),
			attributes.type === "password" ? h("span", { class: "secret" }, input, reveal(input)) : input,
			hint && h("p", { class: "hint", id: `${id}h` }, hint),
			live,
			faults[name],
		)
	})
	const button = h("button", { class: "main" }, submit)
	const general = h("p", { class: "fault", role: "alert" })

	const complain = (name, text) => {
		faults[name].textContent = text
		inputs[name].setAttribute("aria-invalid", "true")
	}
	const send = async (event) => {
		event.preventDefault()
		if (button.disabled) return
		general.textContent = ""
		const values = {}
		for (const [name, input] of Object.entries(inputs)) {
			faults[name].textContent = ""
			input.removeAttribute("aria-invalid")
			try {
				if (!input.value && !input.optional) throw new Error(`${input.label} is missing`)
				values[name] = input.read(input.value)
			} catch (error) {
				complain(name, error.message)
			}
		}
		const first = () => element.querySelector("[aria-invalid]")
		if (first()) return first().focus()
		try {
			await during(button, doing, () => action(values))
		} catch (error) {
			const [, named] = error.message.match(/^(?:error on parameter ")?(\w+)/) ?? []
			const [name, text] = errors[error.status] ?? [named]
			const place = inputs[named] ? named : name
			if (!inputs[place]) general.textContent = text || explain(error)
			else {
				const own = place === name && text
				complain(place, own || explain(error).replace(new RegExp(`^${place}`, "i"), inputs[place].label))
				inputs[place].focus()
			}
		}
	}
	const element = h(
		"form",
		{ class: look, novalidate: true, onsubmit: send },
		...rows,
		h("div", { class: "buttons" }, button, ...more),
		general,
	)
	return element
}

/** A button that shows or hides a password. */
function reveal(input) {
	const toggle = () => {
		const shown = input.type === "text"
		input.type = shown ? "password" : "text"
		button.setAttribute("aria-pressed", String(!shown))
	}
	const attributes = { type: "button", class: "quiet", "aria-pressed": "false", onclick: toggle }
	const button = h("button", attributes, "Show", h("span", { class: "unseen" }, " the password"))
	return button
}

/** Let a button open a menu of the buttons that `items` gives, under it, or above it near the end. */
export function menu(button, items) {
	const box = h("div", { class: "menu", popover: true })
	const close = () => box.hidePopover()
	button.popoverTargetElement = box
	box.onbeforetoggle = ({ newState }) => {
		if (newState !== "open") return removeEventListener("scroll", close)
		box.replaceChildren(...items().filter(Boolean))
		const place = button.getBoundingClientRect()
		const isLow = place.bottom > innerHeight / 2
		box.style.top = isLow ? "auto" : `${place.bottom + 4}px`
		box.style.bottom = isLow ? `${innerHeight - place.top + 4}px` : "auto"
		box.style.right = `${document.documentElement.clientWidth - place.right}px`
		// not before the next frame, which tells of a scroll before this
		requestAnimationFrame(() => addEventListener("scroll", close, { once: true }))
	}
	// before the action, which may move the focus
	const choose = () => {
		close()
		button.focus()
	}
	box.addEventListener("click", choose, true)
	return box
}

/** A modal dialog, removed when it closes. */
export function dialog(title, ...children) {
	const id = newId()
	const element = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), ...children)
	element.addEventListener("close", () => element.remove())
	document.body.append(element)
	element.showModal()
	return element
}

/** Ask for a confirmation, by typing `word` if there is one. */
export function confirm(title, text, yes, word) {
	return new Promise((resolve) => {
		const no = h("button", { type: "button", autofocus: !word, onclick: () => box.close() }, "Cancel")
		const fields = word
			? [{ name: "word", label: `Type ${word} to confirm`, autofocus: true, read: (typed) => {
					if (typed.trim() !== word) throw new Error(`This is not ${word}`)
				}, autocomplete: "off", autocapitalize: "none", spellcheck: "false" }]
			: []
		const ask = form({ fields, submit: yes, doing: yes, more: [no], action: () => box.close("yes") })
		ask.querySelector(".main").className = "danger"
		const box = dialog(title, h("p", {}, text), ask)
		box.addEventListener("close", () => resolve(box.returnValue === "yes"))
	})
}

/** A button that shows a form under it, and the form; `open` shows it. */
export function adder(text, element) {
	const button = h("button", { class: "main", "aria-expanded": "false" }, text)
	const open = (shown = true) => {
		element.hidden = !shown
		button.setAttribute("aria-expanded", String(shown))
	}
	button.onclick = () => {
		open(element.hidden)
		if (!element.hidden) element.querySelector("input").focus()
	}
	element.addEventListener("keydown", ({ key }) => {
		if (key !== "Escape") return
		open(false)
		button.focus()
	})
	open(false)
	return { button, open }
}

/** A button that copies a text. */
export function copyButton(text) {
	const button = h("button", { class: "main" }, "Copy")
	button.onclick = async () => {
		try {
			await navigator.clipboard.writeText(text)
			say("Copied.")
		} catch {
			say("The browser does not allow to copy: select the text.", true) // such as without HTTPS
		}
	}
	return button
}

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" })
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" })

/** A time in seconds since 1970, or only its day. */
export function time(seconds, isDay = false) {
	const date = new Date(seconds * 1000)
	return h("time", { datetime: date.toISOString() }, (isDay ? day : moment).format(date))
}
