/** The view of the user's stuff: add, change a price in place, delete. */

import { list } from "./list.js"
import { acme, events } from "./session.js"
import { adder, explain, form, h, icon, say } from "./ui.js"

const COMMA = (0.5).toLocaleString().includes(",") // where it is the decimal separator
const format = new Intl.NumberFormat(undefined, {
	minimumFractionDigits: 2,
	maximumFractionDigits: 20, // the exact price, not rounded
})

/** A price as a user types it, exact. */
const written = (price) => (COMMA ? String(price).replace(".", ",") : String(price))

function readPrice(text) {
	if (COMMA && /^\d{1,3}(\.\d{3})+$/.test(text.trim())) throw new Error("Write 1000 for a thousand, or 1,000 for one")
	const plain = COMMA ? text.trim().replace(",", ".") : text.trim()
	if (!/^(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain))
		throw new Error(`Price must be a number, such as ${written(6.5)}`)
	return Number(plain)
}

const priceField = (attributes) => ({
	...{ name: "price", label: "Price", inputmode: "decimal", autocomplete: "off" },
	...{ read: readPrice, ...attributes },
})

export function stuffView(view) {
	const { signal, title } = view
	const empty = h(
		"div",
		{ class: "empty", hidden: true },
		h("strong", {}, "Nothing here yet"),
		h("p", {}, "Add the first item."),
	)
	const { search, count, parts, find, ...rows } = list({
		...{ name: "My stuff", one: "item", many: "items", look: "stuff", empty, view },
		load: (range) => acme.stuff(range),
		key: ([name]) => name,
		make: (name) => makeRow(name),
	})
	const put = (name, price) => rows.put([name, price])

	const drop = (row) => {
		const near = row.nextSibling ?? row.previousSibling
		const focused = row.contains(document.activeElement)
		rows.drop(row)
		if (focused) (near?.querySelector(".bin") ?? more.button).focus()
	}

	/** A change was refused; or its response was lost, and the result has to be read. */
	const refused = (name, text, error) => {
		if (error.status === 0) {
			verify(name)
			say(`${explain(error)}: it is not known yet whether ${name} has changed.`, true)
		} else say(`${text}: ${explain(error)}`, true)
	}

	const verify = (name) => {
		const look = async () => {
			try {
				put(name, (await acme.getStuff(name)).price)
			} catch (error) {
				if (error.status !== 404) return
				if (find(name)) drop(find(name))
				else say(`${name} was not added.`, true)
			}
		}
		events.addEventListener("back", look, { once: true, signal })
	}

	/** Add again what was deleted. */
	const restore = async (name, price) => {
		try {
			await acme.addStuff(name, price)
		} catch (error) {
			if (error.status === 0) verify(name)
			const taken = "somebody else has taken the name meanwhile"
			return say(`${name} is not restored: ${error.status === 409 ? taken : explain(error)}`, true)
		}
		put(name, price).querySelector(".value").focus()
		say(`${name} is restored.`)
	}

	const makeRow = (name) => {
		const value = h("button", { class: "quiet value" })
		const place = h("div", { class: "price" }, value)
		const bin = h("button", { class: "quiet bin", "aria-label": `Delete ${name}` }, icon("bin"))
		const row = h("li", {}, h("span", { class: "name" }, name), h("div", { class: "ends" }, place, bin))
		row.show = ([, price]) => {
			row.price = price
			value.replaceChildren(format.format(price), icon("pen"))
			value.setAttribute("aria-label", `${format.format(price)}, the price of ${name}: change it`)
		}

		const close = (focus) => {
			row.classList.remove("edited")
			place.replaceChildren(value)
			if (focus) value.focus()
		}
		const edit = () => {
			if (row.classList.contains("pending")) return
			const cancel = h("button", { type: "button", onclick: () => close(true) }, "Cancel")
			const editor = form({
				look: "inline",
				fields: [priceField({ label: `Price of ${name}`, value: written(row.price) })],
				...{ submit: "Save", doing: "Saving…", more: [cancel] },
				action: async ({ price }) => {
					close(true)
					if (price !== row.price) change(price)
				},
			})
			editor.addEventListener("keydown", ({ key }) => key === "Escape" && close(true))
			row.classList.add("edited")
			place.replaceChildren(editor)
			editor.querySelector("input").select()
		}
		value.onclick = edit

		/** Show the new price at once, and restore the old one if it is refused. */
		const change = async (price) => {
			const old = row.price
			row.show([name, price])
			row.classList.add("pending")
			try {
				await acme.changeStuff(name, price)
				say(`${name} is now ${format.format(price)}.`)
			} catch (error) {
				row.show([name, old])
				if (error.status === 404) drop(row)
				refused(name, `The price of ${name} has not changed`, error)
			} finally {
				row.classList.remove("pending")
			}
		}

		bin.onclick = async () => {
			const { price } = row
			drop(row)
			try {
				await acme.deleteStuff(name)
				say(`${name} is deleted.`, false, () => restore(name, price))
			} catch (error) {
				if (error.status === 404) return say(`${name} was already deleted.`)
				put(name, price)
				refused(name, `${name} is still there`, error)
			}
		}
		return row
	}

	const add = form({
		look: "card add",
		fields: [
			{
				...{ name: "stuff", label: "Name", autocomplete: "off" },
				read: (text) => text.trim(),
			},
			priceField({}),
		],
		submit: "Add",
		doing: "Adding…",
		errors: { 409: ["stuff", "This name is taken: choose another one"] },
		action: async ({ stuff, price }) => {
			try {
				await acme.addStuff(stuff, price)
			} catch (error) {
				if (error.status === 0) verify(stuff)
				throw error
			}
			add.reset()
			add.querySelector("input").focus()
			const row = put(stuff, price)
			row.classList.add("new")
			row.scrollIntoView({ block: "nearest" })
			say(`${stuff} is added.`)
		},
	})
	const more = adder("Add stuff", add)
	return [
		h("div", { class: "tools" }, title, more.button),
		add,
		h("div", { class: "tools" }, search, count),
		...parts,
	]
}
