/**
 * A client of Acme's API for browsers, Node.js 20 or later and Deno: a method for each operation.
 *
 *     import { Acme } from "./acme.js"
 *     const acme = new Acme("http://127.0.0.1:5000")
 *     await acme.signIn("susie", "Some-Pass-1")
 *     await acme.addStuff("pinte", 6.5)
 *
 * The access token is kept in memory only. In a browser, on the server's own origin, there is also a
 * refresh cookie: a request with an expired token is repeated with a new one, and `refresh()`
 * restores the session after a reload. Node.js, and browsers on another origin, keep no cookie:
 *
 *     const acme = new Acme("http://127.0.0.1:5000", { cookie: false })
 *
 * keeps a refresh token in memory instead. A script signs in with an API key, `{ key: "acme_…" }`.
 *
 * Each write has an idempotency key: after a network error or a 503 it is repeated, and made once.
 *
 * Each method throws AcmeError for a status from 400 up: 400 for a wrong parameter, 401 without a
 * valid session, 403 for what is not allowed, 404 for what is not found, 429 and 503 for later. Its
 * message is the server's, and can be shown. It throws NetworkError without a response.
 *
 * @module
 */
export type Stuff = [name: string, price: number];
export type OwnedStuff = {
    stuff: string;
    owner: string;
    price: number;
};
export type Profile = {
    login: string;
    email: string;
    admin: boolean;
    /**
     * false for a disabled user
     */
    active: boolean;
    /**
     * whether the second factor is on
     */
    otp: boolean;
    /**
     * how many recovery codes are left
     */
    recovery: number;
};
export type Session = {
    id: string;
    created: number;
    used: number;
    expires: number;
    /**
     * the address of the sign-in
     */
    from: string;
};
export type Scope = "read" | "write";
export type ApiKey = {
    id: string;
    name: string;
    /**
     * `read` or `write`
     */
    scope: string;
    created: number;
    expires: number;
    /**
     * the day of the last use, 0 for never
     */
    used: number;
};
export type AuditEvent = {
    id: string;
    /**
     * in seconds since 1970
     */
    time: number;
    event: string;
    /**
     * the caller, null for others unless an administrator asks
     */
    who: string | null;
    /**
     * the address of the caller, as `who`
     */
    from: string | null;
    session: string | null;
    key: string | null;
    /**
     * how often it happened
     */
    times: number;
};
export type Person = {
    name: string;
    born: string;
};
export type Message = {
    msg: string;
};
export type Range = {
    /**
     * 1 to 1,000, which is the default
     */
    limit?: number;
    /**
     * a page's `next`
     */
    after?: string;
};
export type Search = Range & {
    q?: string;
};
export type Page<T> = {
    items: T[];
    /**
     * the `after` of the next page, if there may be one
     */
    next?: string;
};
export type Resource<T> = {
    list: (range?: Range) => Promise<Page<T>>;
    get: (key: string) => Promise<T>;
    add: (values: object) => Promise<any>;
    change: (key: string, values: object) => Promise<any>;
    delete: (key: string) => Promise<void>;
};
export type Read = (text: string, response: Response) => any;
/** The error that every method throws. */
export declare class AcmeError extends Error {
    /** The HTTP status, 0 without a response. @type {number} */
    status: number;
    /** Seconds to wait before the next attempt. @type {number | undefined} */
    retryAfter: number | undefined;
    /** @param {string} message  what to do
     * @param {number} status  the HTTP status, 0 without a response
     * @param {number} [retryAfter]  seconds to wait before the next attempt */
    constructor(message: string, status: number, retryAfter?: number);
}
/** There was no response: it is not known whether a change was made. */
export declare class NetworkError extends AcmeError {
}
/** A user of a server, who signs in; or an API key. */
export declare class Acme {
    #private;
    /** @param {string} [base]  URL of the server; by default the origin of the document
     * @param {{cookie?: boolean, key?: string}} [options]  whether a cookie keeps the refresh token, by
     * default true; an API key, which needs no sign-in */
    constructor(base?: string, { cookie, key }?: {
        cookie?: boolean;
        key?: string;
    });
    /** The login of the authenticated user, "" without a token. @type {string} */
    get login(): string;
    /** The id of the current session, one of `sessions`, "" without a token. @type {string} */
    get session(): string;
    /** Sign in.
     * @param {string} username  the login @param {string} password
     * @returns {Promise<boolean>}  false if a one-time password is needed: call `secondStep`
     * @throws {AcmeError} 401 if they are wrong, 429 after too many attempts */
    signIn(username: string, password: string): Promise<boolean>;
    /** Sign in for ten minutes, without a refresh token.
     * @param {string} username  the login @param {string} password
     * @returns {Promise<boolean>}  as `signIn`
     * @throws {AcmeError} 401 if they are wrong, 429 after too many attempts */
    signInBriefly(username: string, password: string): Promise<boolean>;
    /** Complete a sign-in.
     * @param {string} code  a one-time password @returns {Promise<void>}
     * @throws {AcmeError} 401 if it is wrong, 429 after too many attempts */
    secondStep(code: string): Promise<void>;
    /** Get a new token for the refresh token or cookie; concurrent calls share one request.
     * @returns {Promise<void>}
     * @throws {AcmeError} 401 if there is none, or the session has ended */
    refresh(): Promise<void>;
    /** End the session. @param {boolean} [all]  all sessions of the user, not only this one
     * @returns {Promise<void>} */
    signOut(all?: boolean): Promise<void>;
    /** Drop the tokens, without a request. @returns {void} */
    forget(): void;
    /** Who the caller is. @returns {Promise<{msg: string, user: string}>} */
    helloMe(): Promise<{
        msg: string;
        user: string;
    }>;
    /** One's own stuff by name. @param {Search} [range] @returns {Promise<Page<Stuff>>} */
    stuff({ limit, after, q }?: Search): Promise<Page<Stuff>>;
    /** @param {string} stuff  its name @param {number} price @returns {Promise<Message>}
     * @throws {AcmeError} 409 if the name is taken */
    addStuff(stuff: string, price: number): Promise<Message>;
    /** @param {string} sid  its name @returns {Promise<OwnedStuff>}
     * @throws {AcmeError} 403 if it is another user's, 404 if there is none */
    getStuff(sid: string): Promise<OwnedStuff>;
    /** @param {string} sid  its name @param {number} price
     * @returns {Promise<{stuff: string, price: number}>}
     * @throws {AcmeError} 403 if it is another user's, 404 if there is none */
    changeStuff(sid: string, price: number): Promise<{
        stuff: string;
        price: number;
    }>;
    /** @param {string} sid  its name @returns {Promise<void>}
     * @throws {AcmeError} 403 if it is another user's, 404 if there is none */
    deleteStuff(sid: string): Promise<void>;
    /** A resource of your own: the routes of a path such as "/note", and of "/note/{key}".
     * @template T @param {string} path @returns {Resource<T>} */
    resource<T>(path: string): Resource<T>;
    /** All users by login, for administrators; `q` is a part of the login or e-mail address.
     * @param {Search} [range] @returns {Promise<Page<Profile>>} */
    users({ limit, after, q }?: Search): Promise<Page<Profile>>;
    /** For administrators. @param {string} login @param {string} password @param {string} email
     * @returns {Promise<Message>} @throws {AcmeError} 409 if the login is taken */
    addUser(login: string, password: string, email: string): Promise<Message>;
    /** @param {string} login @returns {Promise<Profile>} */
    getUser(login: string): Promise<Profile>;
    /** @param {string} login @param {{email?: string, admin?: boolean, active?: boolean,
     * current?: string}} changes  `current` is the password: where mails are sent, a new address of
     * one's own takes it, and the link in a mail, until when the profile has the old one
     * @returns {Promise<Profile>}
     * @throws {AcmeError} 409 if no active administrator would be left */
    changeUser(login: string, changes: {
        email?: string;
        admin?: boolean;
        active?: boolean;
        current?: string;
    }): Promise<Profile>;
    /** @param {string} login @param {boolean} [withStuff]  delete the user's stuff as well
     * @returns {Promise<void>}
     * @throws {AcmeError} 409 if the user has stuff, or is the last administrator */
    deleteUser(login: string, withStuff?: boolean): Promise<void>;
    /** Set a password, the own one with `current`; all sessions of the user end.
     * @param {string} login @param {string} password  the new one
     * @param {string} [current] @returns {Promise<void>}
     * @throws {AcmeError} 403 if `current` is wrong, 429 after too many attempts */
    setPassword(login: string, password: string, current?: string): Promise<void>;
    /** At most 100, by the time they began: `after` is a page's `next`.
     * @param {string} login @param {Range} [range] @returns {Promise<Page<Session>>} */
    sessions(login: string, { limit, after }?: Range): Promise<Page<Session>>;
    /** @param {string} login @param {string} sid  its id @returns {Promise<void>} */
    endSession(login: string, sid: string): Promise<void>;
    /** API keys, without the keys themselves. @param {string} login @returns {Promise<ApiKey[]>} */
    keys(login: string): Promise<ApiKey[]>;
    /** A new API key, for a script: send it as a bearer token. It is shown only once.
     * @param {string} login @param {string} name @param {Scope} scope
     * @param {string} current  the password @param {number} [days]  1 to 366, by default 90
     * @returns {Promise<{id: string, key: string}>}
     * @throws {AcmeError} 403 if `current` is wrong, 409 if there are 50 */
    addKey(login: string, name: string, scope: Scope, current: string, days?: number): Promise<{
        id: string;
        key: string;
    }>;
    /** @param {string} login @param {string} kid  its id @returns {Promise<void>} */
    deleteKey(login: string, kid: string): Promise<void>;
    /** The audit trail about a user, the newest event first.
     * @param {string} login @param {Range} [range] @returns {Promise<Page<AuditEvent>>} */
    events(login: string, { limit, after }?: Range): Promise<Page<AuditEvent>>;
    /** All that is stored about a user, without secrets; `next` is the `after` of the rest, if any.
     * @param {string} login @param {{after?: string}} [options]
     * @returns {Promise<{data: Record<string, Record<string, any>[]>, next?: string}>} */
    exportUser(login: string, { after }?: {
        after?: string;
    }): Promise<{
        data: Record<string, Record<string, any>[]>;
        next?: string;
    }>;
    /** A new secret for one-time passwords (TOTP): as text, as a URI, and as a QR code.
     * @param {string} login @param {string} current  the password
     * @returns {Promise<{secret: string, uri: string, qr: string}>}
     * @throws {AcmeError} 403 if `current` is wrong, 409 if they are on */
    newOtp(login: string, current: string): Promise<{
        secret: string;
        uri: string;
        qr: string;
    }>;
    /** Switch one-time passwords on with one of them, or off; a recovery code will do to switch off.
     * On returns ten recovery codes, which are shown only once.
     * @param {string} login @param {string} code @param {boolean} on
     * @returns {Promise<{recovery: string[]} | void>} */
    switchOtp(login: string, code: string, on: boolean): Promise<{
        recovery: string[];
    } | void>;
    /** Ten new recovery codes, for a one-time password; those until now are void.
     * @param {string} login @param {string} code @returns {Promise<{recovery: string[]}>} */
    newRecovery(login: string, code: string): Promise<{
        recovery: string[];
    }>;
    /** Switch off another user's one-time passwords, for a lost device.
     * @param {string} login @returns {Promise<void>} */
    resetOtp(login: string): Promise<void>;
    /** Ask for a mail with a link to register. @param {string} email @returns {Promise<Message>}
     * @throws {AcmeError} 404 if nobody can register, 429 after too many */
    askRegistration(email: string): Promise<Message>;
    /** Register with a link.
     * @param {string} token @param {string} login @param {string} password
     * @returns {Promise<Message>}
     * @throws {AcmeError} 403 if the link is not good, 409 if the login is taken: try another one */
    register(token: string, login: string, password: string): Promise<Message>;
    /** Ask for a mail with a link for a new password.
     * @param {string} login @returns {Promise<Message>}
     * @throws {AcmeError} 404 if no mails are sent, 429 after too many */
    askReset(login: string): Promise<Message>;
    /** Set a new password with a link; all sessions and API keys of the user end.
     * @param {string} token @param {string} password @returns {Promise<void>}
     * @throws {AcmeError} 403 if the link is not good */
    resetPassword(token: string, password: string): Promise<void>;
    /** Confirm an address with a link. @param {string} token @returns {Promise<void>}
     * @throws {AcmeError} 403 if the link is not good, 409 if another account has the address */
    confirmAddress(token: string): Promise<void>;
    /** With the version of FlaskSimpleAuth. @returns {Promise<{msg: string, version: string}>} */
    hello(): Promise<{
        msg: string;
        version: string;
    }>;
    /** The description of the API. @returns {Promise<object>} */
    openapi(): Promise<object>;
    /** Count the days since a person was born.
     * @param {Person} who @returns {Promise<{name: string, days: number}>} */
    days(who: Person): Promise<{
        name: string;
        days: number;
    }>;
    /** `days` with GET. @param {Person} who @returns {Promise<{name: string, days: number}>} */
    getDays(who: Person): Promise<{
        name: string;
        days: number;
    }>;
    /** Keep the primes of integers; bigints where a number is too small.
     * @param {(number | bigint)[]} li @returns {Promise<(number | bigint)[]>} */
    primes(li: (number | bigint)[]): Promise<(number | bigint)[]>;
    /** `primes` with GET.
     * @param {(number | bigint)[]} li @returns {Promise<(number | bigint)[]>} */
    getPrimes(li: (number | bigint)[]): Promise<(number | bigint)[]>;
    /** The length of any JSON. @param {unknown} p @returns {Promise<{len: number | "not available"}>} */
    len(p: unknown): Promise<{
        len: number | "not available";
    }>;
    /** `len` with GET. @param {unknown} p @returns {Promise<{len: number | "not available"}>} */
    getLen(p: unknown): Promise<{
        len: number | "not available";
    }>;
    /** Any request, for routes of your own; `{name}` in the path is replaced by that parameter.
     * @param {string} method @param {string} path
     * @param {object} [parameters]  the others go into the query of GET and DELETE, else into the
     * body; undefined ones are left out
     * @param {{authorization?: string, read?: Read, repeat?: boolean}} [options]  in place of the
     * token, and of JSON; false for a write of which a repeat would be another one, because its
     * route needs no authentication, or one that refuses a key
     * @returns {Promise<any>} */
    request(method: string, path: string, parameters?: object, { authorization, read, repeat }?: {
        authorization?: string;
        read?: Read;
        repeat?: boolean;
    }): Promise<any>;
}
