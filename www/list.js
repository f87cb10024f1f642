/** A list of many rows: loaded page by page, searched, counted, and shown again at its place. */

import { events } from "./session.js"
import { during, explain, h } from "./ui.js"

const FIRST = 50 // rows; the next requests are for more, and few are shown at a time
const PAGE = 1000
const MOST = 10_000 // rows that are counted
const CHUNK = 25 // rows that are shown at once
const PAUSE = 200 // milliseconds without a key press before a search
const number = new Intl.NumberFormat()
const frame = () => new Promise((done) => setTimeout(done))

/**
 * A list in the order of the keys of its items.
 *
 * `load` gets a page, `make` an element with a method `show` for an item; `view` is that of app.js.
 */
export function list({ name, one, many, look, load, key, make, empty, view }) {
	const { signal, place } = view
	const rows = h("ul", { class: `rows ${look}`, "aria-label": name })
	const search = h("input", {
		...{ type: "search", "aria-label": `Search ${many}`, placeholder: `Search ${many}` },
		...{ autocomplete: "off", spellcheck: "false", maxlength: "100" },
	})
	const count = h("span", { class: "count", role: "status" })
	const fault = h("p", { class: "fault", role: "alert" })
	const button = h("button", { onclick: () => more() }, "Show more")
	const nothing = h("p", { class: "empty", hidden: true })

	let shown // rows by key
	let ahead // items that are loaded and not shown yet, in order
	let after, isEnd, turn, busy, failed, fetching, isStale

	const total = () => shown.size + ahead.length
	const tell = () => {
		const n = total()
		const plus = isEnd ? "" : "+"
		count.textContent = isEnd === undefined ? "" : `${number.format(n)}${plus} ${n === 1 ? one : many}`
		const isEmpty = isEnd && n === 0
		nothing.hidden = !isEmpty || !search.value.trim()
		nothing.textContent = `No ${one} has “${search.value.trim()}” in it.`
		empty.hidden = !isEmpty || Boolean(search.value.trim())
		button.hidden = !ahead.length && isEnd !== false
	}

	/** Insert or update the row of an item. */
	const put = (item, isNext) => {
		if (isStale) rows.replaceChildren() // those of the search before, shown until now
		isStale = false
		const id = key(item)
		let row = shown.get(id)
		if (!row) {
			row = Object.assign(make(id), { id_: id })
			shown.set(id, row)
			const later = !isNext && rows.lastChild?.id_ > id
			rows.insertBefore(row, later ? [...rows.children].find((r) => r.id_ > id) : null)
			ahead = isNext ? ahead : ahead.filter((other) => key(other) !== id)
		}
		row.show(item)
		return row
	}
	const drop = (row) => {
		shown.delete(row.id_)
		row.remove()
		tell()
	}

	/** Show what is loaded, `n` more rows. */
	const reveal = (n) => {
		if (isStale) rows.replaceChildren()
		isStale = false
		const last = rows.lastChild?.id_
		for (const item of ahead.splice(0, n)) put(item, last === undefined || key(item) > last)
		tell()
	}

	/** Remove most of the rows of the search before, few at a time, so that typing goes on. */
	const thin = async (mine) => {
		while (isStale && mine === turn && rows.children.length > 2 * CHUNK) {
			for (let i = 0; i < 4 * CHUNK && rows.children.length > CHUNK; i++) rows.lastChild.remove()
			await frame()
		}
	}

	const fetchPage = (mine, limit) =>
		(fetching ??= fetchNext(mine, limit).finally(() => {
			if (mine === turn) fetching = undefined
		}))
	const fetchNext = async (mine, limit) => {
		const q = search.value.trim() || undefined
		const page = await load({ limit, after, q })
		if (mine !== turn) return
		ahead.push(...page.items.filter((item) => !shown.has(key(item))))
		for (const item of page.items) shown.get(key(item))?.show(item)
		after = page.next
		isEnd = after === undefined
	}

	/** Load and show `n` more rows, and count what follows. */
	const more = async (n = FIRST) => {
		if (busy || signal.aborted) return
		busy = true
		const mine = turn
		watch.disconnect()
		fault.textContent = ""
		try {
			while (ahead.length < n && !isEnd && mine === turn)
				await during(button, "Loading…", () => fetchPage(mine, shown.size || n > FIRST ? PAGE : FIRST))
			await thin(mine)
			const chunk = n > FIRST ? 8 * CHUNK : CHUNK
			for (let i = 0; i < n && ahead.length && mine === turn; i += chunk) {
				reveal(Math.min(chunk, n - i))
				await frame()
			}
			if (mine === turn) reveal(0)
			failed = false
		} catch (error) {
			if (mine !== turn) return
			failed = true
			fault.textContent = explain(error)
		} finally {
			if (mine === turn) busy = false
		}
		if (mine !== turn || failed) return
		if (!button.hidden) watch.observe(button) // shows more at once if it is still in view
		try {
			while (!isEnd && total() < MOST && mine === turn && !busy) {
				await frame()
				await fetchPage(mine, PAGE)
				if (mine === turn) tell()
			}
		} catch {
			// the count stays open
		}
	}
	// a busy browser reports several changes in one call: the last one is the current state
	const watch = new IntersectionObserver((changes) => changes.at(-1).isIntersecting && more(), {
		rootMargin: "600px",
	})

	/** Begin anew, as for another search. */
	const reset = () => {
		turn = {}
		shown = new Map()
		ahead = []
		after = isEnd = undefined
		busy = failed = fetching = undefined
		isStale = true
	}

	let timer
	search.oninput = () => {
		clearTimeout(timer)
		timer = setTimeout(() => {
			reset()
			more()
		}, PAUSE)
	}
	events.addEventListener("back", () => failed && more(), { signal })
	signal.addEventListener("abort", () => {
		watch.disconnect()
		clearTimeout(timer)
		turn = undefined
	})

	// the place, for Back and a reload
	view.keep(() => {
		let [low, high] = [0, rows.children.length - 1]
		while (low < high) {
			const middle = (low + high) >> 1
			if (rows.children[middle].getBoundingClientRect().bottom > 0) high = middle
			else low = middle + 1
		}
		const first = rows.children[low]
		const at = first && [first.id_, first.getBoundingClientRect().top]
		return { q: search.value, rows: shown.size, at }
	})
	const begin = async () => {
		reset()
		search.value = place?.q ?? ""
		await more(Math.max(FIRST, place?.rows ?? 0))
		const row = place?.at && shown.get(place.at[0])
		if (!row) return
		for (let i = 0; i < 2; i++) {
			scrollBy(0, row.getBoundingClientRect().top - place.at[1])
			await frame()
		}
	}
	begin()

	return {
		search,
		count,
		parts: [empty, nothing, rows, h("div", { class: "more" }, fault, button)],
		put: (item) => {
			const row = put(item)
			tell()
			return row
		},
		drop,
		find: (id) => shown.get(id),
	}
}
